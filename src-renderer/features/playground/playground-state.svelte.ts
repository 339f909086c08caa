import type { ErrorMessage } from '#contract/errors.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import type { GenerationEvent } from '#contract/playground/generation.ts'
import type { GenerationSettings } from '#contract/playground/generation-settings.ts'
import type { PromptSet, Transcript, TranscriptColumn, TranscriptEntry } from '#contract/playground/playground.ts'
import { codePrompts, paperBeams, paperLength, paperPrompts } from '#contract/protocol.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { call, on, onReconnect } from '../../api/api.ts'
import { isCodeModel } from '../../lib/code.ts'
import { failureOf } from '../../lib/failure.ts'
import { announce, notify, notifyProblem } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { saveText } from '../../lib/save-file.ts'
import { stopAll } from '../../lib/schedule.ts'
import { type Answers, answersOf, blindOrder, takeEvents } from './answers.ts'
import { keptPrompts, keptSampling } from './kept-prompts.ts'

export const plainSampling: GenerationSettings['decoding'] = {
  kind: 'sampling',
  temperature: 0.8,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
}
/** The likeliest token each time, so that answers differ only where models do. */
const greedyDecoding: GenerationSettings['decoding'] = { ...plainSampling, temperature: 0 }
export const beamDecoding: GenerationSettings['decoding'] = { kind: 'beam', ...paperBeams }

const flushMilliseconds = 40

/** One prompt to several models: the choices, the answers, and the kept transcripts. */
export class PlaygroundState {
  /** Null until they are loaded. */
  models = $state.raw<ModelEntry[] | null>(null)
  runs = $state.raw<RunEntry[]>([])
  promptSets = $state.raw<PromptSet[]>([])
  prompts = $state<string[]>(keptPrompts.get())
  settings = $state<GenerationSettings>({ decoding: plainSampling, template: 'raw', maxTokens: 96, seed: 0, alternatives: 5 })
  blind = $state(false)
  session = $state.raw<TranscriptEntry | null>(null)
  transcript = $state.raw<Transcript | null>(null)
  answers = $state.raw<Answers>(new Map())
  /** The text that the answers to each prompt begin with, if they continue from a chosen token. */
  given = $state.raw<string[]>([])
  problem = $state.raw<ErrorMessage | null>(null)
  starting = $state(false)
  /** Whether the user, or a transcript, chose how tokens are chosen. */
  hasDecoding = $state(false)
  revealed = $state(false)
  /** Resolves when the models, and the runs that the address names, are loaded. */
  #columns: Promise<void> = Promise.resolve()
  #waiting: GenerationEvent[] = []
  #timer: ReturnType<typeof setTimeout> | undefined

  readonly modelId: string = $derived(router.query.model ?? this.runs[0]?.model.id ?? this.models?.[0]?.id ?? '')
  readonly generating: boolean = $derived(this.session?.status === 'running')
  readonly columns: TranscriptColumn[] = $derived(this.session?.columns ?? [])
  readonly hidden: boolean = $derived((this.session?.blind ?? false) && !this.revealed)
  readonly order: number[] = $derived(
    this.session?.blind ? blindOrder(this.columns.length, this.session.id) : this.columns.map((_, at) => at),
  )

  follow(): () => void {
    this.#takeKept()
    this.#columns = this.#load()
    return stopAll(
      on('generation', ({ session, event }) => session === this.session?.id && this.#hear(event)),
      on('transcript changed', ({ transcript }) => {
        if (transcript.id !== this.session?.id) return
        this.session = transcript
        if (transcript.status !== 'running') void this.#finish(transcript.id)
      }),
      onReconnect(() => this.session && void this.open(this.session.id)),
    )
  }

  /** Keeps the prompts and the sampling settings for the next load of this page. */
  keep(): void {
    keptPrompts.set(this.prompts)
    if (this.models === null) return
    const { decoding, maxTokens, maxLength, seed } = this.settings
    const rest = { maxTokens, seed, ...(maxLength === undefined ? {} : { maxLength }) }
    keptSampling.set(this.hasDecoding ? { decoding, ...rest } : rest, this.session?.id)
  }

  #takeKept(): void {
    const found = keptSampling.get(router.query.transcript)
    if (!found) return
    const { maxLength: _, ...settings } = this.settings
    this.settings = { ...settings, ...found }
    if (found.decoding) this.hasDecoding = true
  }

  /** Whether the dense model has a column. The address has `dense=no` if not. */
  get withDense(): boolean {
    return router.query.dense !== 'no'
  }

  setColumns(model: string, runs: string[], withDense: boolean): void {
    const other = model !== this.modelId
    router.replaceQuery({ model, runs: runs.join(','), dense: withDense ? '' : 'no' })
    if (other) this.#suitModel()
    this.#columns = this.#loadRuns()
  }

  async start(continueFrom?: { prompt: number; ids: number[]; text: string }): Promise<void> {
    const prompts = this.prompts.map((prompt) => prompt.trim()).filter(Boolean)
    const texts = continueFrom ? [prompts[continueFrom.prompt] ?? ''] : prompts
    if (texts.length === 0) return
    this.starting = true
    this.problem = null
    this.problem = await failureOf(async () => {
      await this.#columns
      const columns = [...(this.withDense ? [{ model: this.modelId }] : []), ...this.runs.map(({ id }) => ({ run: id }))].slice(0, 6)
      this.answers = new Map()
      this.#waiting = []
      this.transcript = null
      this.revealed = false
      this.given = continueFrom ? [continueFrom.text] : []
      if (continueFrom) this.prompts = texts
      this.session = await call('playground.start', {
        columns,
        prompts: texts.map((text) => ({ text, ...(continueFrom ? { continueFrom: continueFrom.ids } : {}) })),
        settings: { ...$state.snapshot(this.settings), turns: undefined },
        blind: this.blind,
      })
      router.replaceQuery({ ...router.query, transcript: this.session.id })
      void this.#finish(this.session.id)
    })
    this.starting = false
  }

  /** Whether the user can reply to the answers: they are to one prompt, or part of a conversation, and use the chat template. */
  get isConversation(): boolean {
    const { transcript } = this
    if (!transcript || this.generating || transcript.id !== this.session?.id) return false
    return transcript.settings.template === 'chat' && (transcript.prompts.length === 1 || transcript.settings.turns === true)
  }

  async reply(text: string): Promise<boolean> {
    const { session } = this
    if (!session) return false
    this.starting = true
    this.problem = null
    this.problem = await failureOf(async () => {
      this.session = await call('playground.reply', { id: session.id, text })
      void this.#finish(session.id)
    })
    this.starting = false
    return this.problem === null
  }

  /** Turns the chat template on if the model has one, and begins with a prompt that fits the model, unless the user wrote one. */
  #suitModel(): void {
    const { name, description } = this.models?.find(({ id }) => id === this.modelId) ?? {}
    this.settings = { ...this.settings, template: description?.chatTemplate ? 'chat' : 'raw' }
    const first = { code: codePrompts[0], prose: this.promptSets[0]?.prompts[0] ?? '' }
    const [prompt = '', ...others] = this.prompts
    if (others.length > 0 || !['', first.code, first.prose].includes(prompt)) return
    this.prompts = [isCodeModel(name ?? '') ? first.code : first.prose]
  }

  /** Compares without chance: several columns answer with the likeliest tokens, unless the user chose otherwise. */
  #suitDecoding(): void {
    if (this.hasDecoding) return
    const count = this.runs.length + Number(this.withDense)
    this.settings = { ...this.settings, decoding: count > 1 ? greedyDecoding : plainSampling }
  }

  async stop(column?: number): Promise<void> {
    if (!this.session) return
    await call('playground.stop', { id: this.session.id, ...(column === undefined ? {} : { column }) }).catch((thrown) =>
      notifyProblem(thrown),
    )
  }

  /** Shows a kept transcript. */
  async open(id: string): Promise<void> {
    this.problem = await failureOf(async () => {
      const transcript = await call('transcripts.get', { id })
      this.#show(transcript)
      if (transcript.status === 'running') await this.#finish(id)
    })
  }

  #show(transcript: Transcript): void {
    this.transcript = transcript
    this.session = transcript
    this.answers = answersOf(transcript)
    this.prompts = transcript.settings.turns ? transcript.prompts.slice(0, 1) : transcript.prompts
    this.settings = transcript.settings
    this.hasDecoding = true
    this.given = []
    this.revealed = transcript.votes.length > 0
    this.#takeColumns(transcript)
  }

  /** Takes the columns from the transcript, so that the next prompt goes to the same models. */
  #takeColumns({ id, columns }: TranscriptEntry): void {
    const model = columns[0]?.model.id
    if (model === undefined) return
    const runs = columns.flatMap(({ run }) => (run ? [run.id] : []))
    const withDense = columns.some(({ run }) => run === null)
    router.replaceQuery({ model, runs: runs.join(','), dense: withDense ? '' : 'no', transcript: id })
    this.#columns = this.#loadRuns()
  }

  async findTranscripts(search: string): Promise<TranscriptEntry[]> {
    return (await call('transcripts.query', { search, limit: 200 })).rows
  }

  starTranscript(id: string, starred: boolean): Promise<TranscriptEntry> {
    return call('transcripts.update', { id, starred })
  }

  async removeTranscript(id: string): Promise<void> {
    await call('transcripts.remove', { ids: [id] })
    if (this.session?.id === id) this.session = null
  }

  async removePrompts(set: PromptSet): Promise<void> {
    await call('prompts.remove', { id: set.id })
    this.promptSets = await call('prompts.list', {})
    notify(`Prompt set “${set.name}” removed`, { undo: () => void this.#restorePrompts(set) })
  }

  async #restorePrompts({ name, prompts }: PromptSet): Promise<void> {
    await call('prompts.save', { name, prompts })
    this.promptSets = await call('prompts.list', {})
  }

  async vote(prompt: number, column: number | null): Promise<void> {
    if (!this.session) return
    await call('transcripts.update', { id: this.session.id, vote: { prompt, column } })
    this.transcript = await call('transcripts.get', { id: this.session.id })
    if (this.transcript.votes.length >= this.session.prompts.length) this.revealed = true
  }

  async rename(title: string): Promise<void> {
    if (this.session && title.trim()) this.session = await call('transcripts.update', { id: this.session.id, title: title.trim() })
  }

  async exportTranscript(format: 'json' | 'markdown' | 'csv'): Promise<void> {
    if (this.session) saveText(await call('transcripts.export', { ids: [this.session.id], format }))
  }

  usePaperProtocol(): void {
    this.prompts = [...paperPrompts]
    this.hasDecoding = true
    this.settings = { ...this.settings, decoding: beamDecoding, template: 'raw', maxTokens: paperLength, maxLength: paperLength }
  }

  async savePrompts(name: string): Promise<void> {
    const prompts = this.prompts.map((prompt) => prompt.trim()).filter(Boolean)
    if (prompts.length === 0) return
    await call('prompts.save', { name, prompts })
    this.promptSets = await call('prompts.list', {})
    notify(`Prompt set “${name}” saved`)
  }

  async #load(): Promise<void> {
    const failure = await failureOf(async () => {
      const [models, promptSets] = await Promise.all([call('models.list', {}), call('prompts.list', {})])
      this.promptSets = promptSets
      if (router.query.transcript) {
        await this.open(router.query.transcript)
        this.#takeKept()
      }
      this.models = models
      if (!router.query.transcript) {
        await this.#loadRuns()
        this.#suitModel()
      }
    })
    if (failure) this.problem = failure
  }

  async #loadRuns(): Promise<void> {
    const ids = (router.query.runs ?? '').split(',').filter(Boolean).slice(0, 6)
    const found = await Promise.all(ids.map((id) => call('runs.get', { id }).catch(() => null)))
    this.runs = found.filter((run) => run !== null && !(this.withDense && run.baseline)).map((run) => run as RunEntry)
    this.#suitDecoding()
  }

  /** Collects events for some milliseconds, so that they become one change of the screen. */
  #hear(event: GenerationEvent): void {
    this.#waiting.push(event)
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.answers = takeEvents(this.answers, this.#waiting)
      this.#waiting = []
    }, flushMilliseconds)
  }

  /** Loads the answers if all have ended. Also called after a start, because they may have ended before this page listened for events. */
  async #finish(id: string): Promise<void> {
    const transcript = await call('transcripts.get', { id }).catch(() => null)
    if (!transcript || transcript.status === 'running' || this.session?.id !== id) return
    announce('All answers have arrived')
    this.session = transcript
    this.transcript = transcript
    this.answers = answersOf(transcript)
    this.#waiting = []
  }
}
