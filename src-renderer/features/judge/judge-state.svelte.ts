import { diffWords } from 'diff'
import type { Judgement, JudgingEntry, JudgingResult, JudgingState } from '#contract/judging/judging.ts'
import { type PromptSet, parsePrompts, type Transcript, type TranscriptEntry } from '#contract/playground/playground.ts'
import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import { call, on, onReconnect } from '../../api/api.ts'
import { failureOf } from '../../lib/failure.ts'
import { announce, attempt } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { RunChoice } from '../../lib/runs/run-choice.svelte.ts'
import { saveText } from '../../lib/save-file.ts'
import { stopAll } from '../../lib/schedule.ts'

/** The list of judgings: transcripts to judge, past judgings, and the form that generates answers in the queue. */
export class JudgingsState {
  judgings = $state.raw<JudgingEntry[]>([])
  transcripts = $state.raw<TranscriptEntry[]>([])
  sets = $state.raw<PromptSet[]>([])
  answering = $state.raw<RunEntry[]>([])
  /** Whether the lists were loaded. Until then, an empty list means nothing. */
  loaded = $state(false)
  readonly choice = new RunChoice()
  prompts = $state('')
  tokens = $state(48)
  problem = $state('')
  busy = $state(false)

  follow(): () => void {
    void this.load()
    return stopAll(
      on('run changed', ({ run }) => run.method === 'generation' && void this.load()),
      onReconnect(() => {
        this.problem = ''
        void this.load()
      }),
    )
  }

  async load(): Promise<void> {
    const failure = await failureOf(async () => {
      const method = (value: string) => [{ field: 'method', is: 'equal' as const, value }]
      const [judgings, { rows }, answering, sets] = await Promise.all([
        call('judgings.list', {}),
        call('transcripts.query', { limit: 200 }),
        call('runs.query', { limit: 50, columns: [], conditions: method('generation') }),
        call('prompts.list', {}),
        this.choice.search(),
      ])
      this.judgings = judgings
      this.transcripts = rows.filter(({ columns, status, answered }) => columns.length > 1 && status !== 'running' && answered > 1)
      this.answering = answering.rows
      this.loaded = true
      this.sets = sets
      this.prompts ||= sets[0]?.prompts.join('\n') ?? ''
    })
    if (failure) this.problem = failure.message
  }

  usePrompts(set: string): void {
    const found = this.sets.find(({ id }) => id === set)
    if (found) this.prompts = found.prompts.map((prompt) => prompt.replaceAll('\n', ' ')).join('\n')
  }

  /** Queues the prompts for the chosen runs and the dense model. */
  async answer(): Promise<void> {
    this.busy = true
    this.problem = ''
    const failure = await failureOf(async () => {
      const settings = { maxTokens: this.tokens, alternatives: 0, decoding: { kind: 'sampling' as const, temperature: 0 } }
      const inspect = { kind: 'generation' as const, runs: this.choice.ids, prompts: parsePrompts(this.prompts), settings }
      await call('runs.inspect', { inspect })
      announce('Queued.')
      await this.load()
    })
    if (failure) this.problem = failure.message
    this.busy = false
  }

  async start(transcript: string): Promise<void> {
    await attempt(async () => {
      const { id } = await call('judgings.start', { transcript })
      router.go(['judge', id])
    })
  }
}

/** One judging: the current pair, and the result once it is requested. */
export class OneJudging {
  state = $state.raw<JudgingState | null>(null)
  result = $state.raw<JudgingResult | null>(null)
  problem = $state('')
  busy = $state(false)
  readonly id: string

  constructor(id: string) {
    this.id = id
  }

  async load(): Promise<void> {
    const failure = await failureOf(async () => {
      this.state = await call('judgings.get', { id: this.id })
      if (this.state.next === null) await this.reveal()
    })
    if (failure) this.problem = failure.message
  }

  async vote(vote: Judgement): Promise<void> {
    const pair = this.state?.next?.pair
    if (pair === undefined || this.busy) return
    await this.#send(pair, vote)
    announce(this.state?.next ? `Voted. Pair ${(this.state?.votes ?? 0) + 1} of ${this.state?.pairs}.` : 'All pairs are judged.')
  }

  async takeBack(): Promise<void> {
    const pair = this.state?.last ?? null
    if (pair !== null && !this.busy) await this.#send(pair, null)
    this.result = null
  }

  async #send(pair: number, vote: Judgement | null): Promise<void> {
    this.busy = true
    await attempt(async () => {
      this.state = await call('judgings.vote', { id: this.id, pair, vote })
      if (this.state.next === null) await this.reveal()
    })
    this.busy = false
  }

  async reveal(): Promise<void> {
    await attempt(async () => (this.result = await call('judgings.result', { id: this.id })))
  }

  async export(format: 'json' | 'csv'): Promise<void> {
    await attempt(async () => saveText(await call('judgings.export', { id: this.id, format })))
  }
}

/** The answers that a run in the queue generated, side by side. */
export class AnswersState {
  run = $state.raw<RunDetail | null>(null)
  transcript = $state.raw<Transcript | null>(null)
  problem = $state('')

  async load(id: string): Promise<void> {
    const failure = await failureOf(async () => {
      this.run = await call('runs.get', { id })
      if (this.run.inspected?.kind === 'generation') this.transcript = await call('transcripts.get', { id: this.run.inspected.transcript })
    })
    if (failure) this.problem = failure.message
  }

  async export(format: 'json' | 'csv'): Promise<void> {
    const { transcript } = this
    if (transcript) await attempt(async () => saveText(await call('transcripts.export', { ids: [transcript.id], format })))
  }
}

/** The votes in the order of their buttons, with the key of each. */
export const votes: readonly { vote: Judgement; title: string; key: string }[] = [
  { vote: 'left', title: 'A is better', key: 'a' },
  { vote: 'right', title: 'B is better', key: 'b' },
  { vote: 'tie', title: 'Tie', key: 't' },
  { vote: 'both bad', title: 'Both bad', key: 'x' },
]

export function voteOf(key: string): Judgement | undefined {
  return votes.find((one) => one.key === key.toLowerCase())?.vote
}

/** Some consecutive words, and whether the other text lacks them. */
interface Stretch {
  text: string
  changed: boolean
}

/** Splits `to` into stretches that it shares with `from` and stretches that are new. Words that only `from` has are left out. */
export function wordDifference(from: string, to: string): Stretch[] {
  if (from === to) return [{ text: to, changed: false }]
  return diffWords(from, to).flatMap(({ value, removed, added }) => (removed ? [] : [{ text: value, changed: added === true }]))
}
