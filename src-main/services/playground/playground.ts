import type { Checked } from '#contract/api.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { explainIssues } from '#contract/explain-issue.ts'
import { type GeneratedToken, type GenerationEvent, type GenerationRequest, generationEvent } from '#contract/playground/generation.ts'
import type {
  Answerer,
  Completion,
  PromptSet,
  SessionRequest,
  Transcript,
  TranscriptColumn,
  TranscriptEntry,
} from '#contract/playground/playground.ts'
import { codePrompts, paperPrompts } from '#contract/protocol.ts'
import { newId } from '#db/ids.ts'
import type { StoredModel } from '#db/models.ts'
import type { Job } from '#jobs/compute/compute-host.ts'
import type { Calls } from '../context.ts'
import { currentSettings } from '../machine/current-settings.ts'
import { Service } from '../service.ts'

/** The prompts of the paper's qualitative evaluation. */
const paperSet: PromptSet = { id: 'paper', name: 'The paper’s prompts', prompts: [...paperPrompts], builtIn: true }
const codeSet: PromptSet = { id: 'code', name: 'Code to complete', prompts: [...codePrompts], builtIn: true }
const builtIn = [paperSet, codeSet]

/** A column with what the engine and the transcript need of it. */
interface ResolvedColumn {
  readonly model: { readonly id: string; readonly name: string; readonly path: string }
  readonly plan: GenerationRequest['columns'][number]['plan']
  readonly fingerprint: string | null
  readonly run: TranscriptColumn['run']
}

/** Who asks for answers. */
interface Asker {
  readonly id: string
  readonly title: string
  readonly signal?: AbortSignal | undefined
}

/**
 * Manages prompt sets and sessions. A session generates text with several plans over one model. Every answer is stored as soon as it ends,
 * so that none is lost.
 */
export class PlaygroundService extends Service {
  readonly #jobs = new Map<string, Job>()
  /** The jobs of completions that arrive as events, by session. */
  readonly #completions = new Map<string, Job>()

  readonly calls: Calls<'playground'> & Calls<'prompts'> = {
    'playground.start': (request) => this.#start(request),
    'playground.reply': ({ id, text }) => this.#reply(id, text),
    'playground.stop': ({ id, column }) => {
      const job = this.#jobs.get(id)
      if (!job) throw new EspalierError('not-found', `The session ${id} has already ended.`)
      job.cancel(column)
      return {}
    },
    'playground.answerers': () => this.#answerers(),
    'playground.complete': (request, signal) => this.#complete(request, signal),
    'playground.hold': ({ session, held }) => {
      const job = this.#completions.get(session)
      if (!job) throw new EspalierError('not-found', `The session ${session} has already ended.`)
      job.hold(held)
      return {}
    },
    'playground.release': () => {
      for (const job of this.#jobs.values()) job.cancel()
      this.parts.playground.release()
      return {}
    },
    'prompts.list': () => [...builtIn, ...this.history.promptSets.list()],
    'prompts.save': ({ name, prompts }) => {
      if (builtIn.some((set) => set.name === name))
        throw new EspalierError('invalid', `"${name}" is the name of a built-in prompt set. Choose another name.`)
      return this.history.promptSets.save({ id: newId('prompts'), name, prompts, createdAt: Date.now() })
    },
    'prompts.remove': ({ id }) => {
      if (builtIn.some((set) => set.id === id)) throw new EspalierError('conflict', 'This prompt set is built in and cannot be deleted.')
      if (!this.history.promptSets.remove(id)) throw new EspalierError('not-found', `There is no prompt set ${id}.`)
      return {}
    },
  }

  /** Starts a session, which reports text as it is generated. */
  #start(request: SessionRequest): TranscriptEntry {
    const { history, owner } = this.parts
    const columns = this.#columnsOf(request)
    const id = newId('talk')
    const prompts = request.prompts.map(({ text }) => text)
    const title = request.title ?? ((prompts[0] as string).replace(/\s+/g, ' ').trim().slice(0, 80) || 'Untitled')
    const { settings, blind } = request
    const described = columns.map(({ model, run }) => ({ model: { id: model.id, name: model.name }, run }))
    history.transcripts.insert({ id, title, prompts, columns: described, settings, blind, owner, createdAt: Date.now() })
    return this.#answer(id, this.#taskOf(request, columns), 0)
  }

  /** Adds a turn to a conversation, which is a transcript whose prompts are its turns. */
  #reply(id: string, text: string): TranscriptEntry {
    const { history, owner } = this.parts
    const { prompts, columns, answers, settings, status } = history.transcripts.get(id)
    if (status === 'running')
      throw new EspalierError(
        'conflict',
        'The last message of this conversation is still being answered. Wait for the answers, or stop them.',
      )
    if (settings.template !== 'chat' || (prompts.length > 1 && !settings.turns))
      throw new EspalierError('conflict', 'You can only reply to answers to a single prompt in the chat template.')
    const resolved = columns.map(({ model, run }) => this.#resolve(run ? { run: run.id } : { model: model.id }))
    const answerOf = (prompt: number, column: number) => answers.find((one) => one.prompt === prompt && one.column === column)?.text ?? ''
    const histories = columns.map((_, column) =>
      prompts.flatMap((asked, prompt) => [
        { role: 'user', content: asked },
        { role: 'assistant', content: answerOf(prompt, column) },
      ]),
    )
    history.transcripts.patch(id, {
      prompts: [...prompts, text],
      settings: { ...settings, turns: true },
      status: 'running',
      problem: null,
      owner,
    })
    return this.#answer(id, this.#taskOf({ prompts: [{ text, histories }], settings }, resolved), prompts.length)
  }

  /** Generates the answers of a transcript from the prompt with index `first`. The prompts before it are already answered. */
  #answer(id: string, task: GenerationRequest, first: number): TranscriptEntry {
    const job = this.#perform(task, { id, title: 'the playground' }, (event) => this.#hear(id, { ...event, prompt: first + event.prompt }))
    this.#jobs.set(id, job)
    void job.result.then(
      () => this.#end(id, 'done', null),
      (thrown) => this.#fail(id, thrown),
    )
    return this.#tell(id)
  }

  /**
   * Generates text in the playground's process. `tell` receives its events, and its output goes to the log of `id`. `title` names who asked
   * in the sentence of a task that waits for this one's memory.
   */
  #perform(request: GenerationRequest, { id, title, signal }: Asker, tell: (event: GenerationEvent) => void): Job {
    const { history, playground, logs } = this.parts
    const onEvent = (raw: unknown) => {
      const parsed = generationEvent.safeParse(raw)
      if (parsed.success) tell(parsed.data)
      else logs.append(id, `An event of an answer could not be read. ${explainIssues(parsed.error, raw)[0]?.message ?? ''}\n`)
    }
    return playground.perform(
      { kind: 'generate', request },
      {
        signal,
        claimant: { id, title },
        onEvent,
        onOutput: (chunk) => logs.append(id, chunk),
        getStep: (name) => history.steps.find(name),
      },
    )
  }

  #answerers(): Answerer[] {
    const { models, runs } = this.history
    const planned = runs.planned().map(({ id, name, created_at }) => ({ id, name, kind: 'run' as const, createdAt: created_at }))
    const all = [...planned, ...models.list().map(({ id, name, createdAt }) => ({ id, name, kind: 'model' as const, createdAt }))]
    return all.sort((one, other) => other.createdAt - one.createdAt)
  }

  /** Finds a model or run by its id, or by its name. Throws if several have this name. */
  #answererNamed(name: string): Answerer {
    const all = this.#answerers()
    const byId = all.find(({ id }) => id === name)
    const named = byId ? [byId] : all.filter((one) => one.name === name)
    const [found, other] = named
    if (!found) throw new EspalierError('not-found', `No model or run is called "${name}". Use an id from the list of models.`)
    if (other) throw new EspalierError('conflict', `${named.length} models or runs are called "${name}". Use the id of one: ${found.id}.`)
    return found
  }

  async #complete(request: Checked<'playground.complete'>, signal?: AbortSignal): Promise<Completion> {
    const { session, prompts, settings, scoresPrompts } = request
    const model = this.#answererNamed(request.model)
    const column = this.#resolve(model.kind === 'run' ? { run: model.id } : { model: model.id })
    checkPrompts(prompts, this.parts.library.find(column.model.id))
    const collected = new Collected(session === undefined)
    const task = { ...this.#taskOf({ prompts, settings }, [column]), scoresPrompts }
    const hear = (event: GenerationEvent) => {
      if (session !== undefined) this.parts.emit({ name: 'generation', data: { session, event } })
      collected.take(event)
      if (collected.problem !== null) job.cancel()
    }
    const job = this.#perform(task, { id: session ?? model.id, title: `an answer of ${model.name}`, signal }, hear)
    if (session !== undefined) this.#completions.set(session, job)
    try {
      await job.result
    } catch (thrown) {
      if (collected.problem === null) throw signal?.aborted ? signal.reason : thrown
    } finally {
      if (session !== undefined) this.#completions.delete(session)
    }
    return { model, answers: collected.answers() }
  }

  /** Returns the columns of a request. Throws unless they all belong to one model. */
  #columnsOf({ columns }: SessionRequest): ResolvedColumn[] {
    const resolved = columns.map((column) => this.#resolve(column))
    const [first] = resolved
    const other = resolved.find(({ model }) => model.id !== first?.model.id)
    if (!first || other)
      throw new EspalierError(
        'conflict',
        `All columns must belong to one model, not to ${first?.model.name} and ${other?.model.name}. Open the other model in a separate session.`,
      )
    return resolved
  }

  #resolve({ model, run }: SessionRequest['columns'][number]): ResolvedColumn {
    const { history } = this.parts
    if (run === undefined) {
      if (model === undefined) throw new EspalierError('invalid', 'A column needs a model or a run.')
      return { model: this.parts.library.find(model), plan: null, fingerprint: null, run: null }
    }
    const row = history.runs.get(run)
    if (!row.has_plan)
      throw new EspalierError('conflict', `"${row.name}" has no plan: it is ${row.status}. Choose a run that has finished pruning.`)
    const plan = row.baseline ? null : history.documents.plan(row.number)
    const { id, name, method, reached } = row
    return { model: this.parts.library.find(row.model), plan, fingerprint: row.fingerprint, run: { id, name, method, reached } }
  }

  #taskOf({ prompts, settings }: Pick<GenerationRequest, 'prompts' | 'settings'>, columns: readonly ResolvedColumn[]): GenerationRequest {
    const { backend, memoryBytes } = currentSettings(this.parts)
    const [{ model }] = columns as readonly [ResolvedColumn]
    const memory = memoryBytes === null ? {} : { memoryBytes }
    return {
      model: model.path,
      columns: columns.map(({ plan, fingerprint }) => ({ plan, fingerprint })),
      prompts,
      settings,
      backend,
      ...memory,
    }
  }

  #hear(id: string, event: GenerationEvent): void {
    this.parts.emit({ name: 'generation', data: { session: id, event } })
    if (event.type !== 'answer') return
    const { type: _, ...answer } = event
    this.history.writes.later(id, () => this.history.transcripts.addAnswer(id, answer))
  }

  #fail(id: string, thrown: unknown): void {
    const { code, message } = toErrorMessage(thrown)
    const advice = ' Set a memory limit in the settings: weights that do not fit are then streamed from disk block by block.'
    if (code === 'cancelled') this.#end(id, 'stopped', null)
    else this.#end(id, 'failed', code === 'out-of-memory' ? `${message}${advice}` : message)
  }

  #end(id: string, status: Transcript['status'], problem: string | null): void {
    const { history } = this.parts
    this.#jobs.delete(id)
    if (!history.db.open) return
    history.writes.later(id, () => {
      if (!history.transcripts.find(id)) return
      history.transcripts.patch(id, { status, problem })
      this.#tell(id)
    })
  }

  #tell(id: string): TranscriptEntry {
    const transcript = entryOf(this.history.transcripts.get(id))
    this.parts.emit({ name: 'transcript changed', data: { transcript } })
    return transcript
  }
}

/** Refuses prompts that the model cannot read before they are copied to its process. */
function checkPrompts(prompts: Checked<'playground.complete'>['prompts'], { name, description }: StoredModel): void {
  const { contextLength } = description.shape
  for (const [index, { continueFrom = [], sameAs }] of prompts.entries()) {
    if (continueFrom.length >= contextLength)
      throw new EspalierError(
        'usage',
        `The prompt has ${continueFrom.length} tokens; ${name} reads at most ${contextLength}. Shorten the prompt.`,
      )
    if (sameAs !== undefined && (sameAs >= index || prompts[sameAs]?.sameAs !== undefined))
      throw new EspalierError('invalid', `Prompt ${index} is the same as ${sameAs}, which is not an earlier prompt of its own.`)
  }
}

export function entryOf({
  id,
  title,
  prompts,
  promptTags,
  columns,
  status,
  answered,
  blind,
  starred,
  tags,
  createdAt,
}: Transcript): TranscriptEntry {
  return { id, title, prompts, promptTags, columns, status, answered, blind, starred, tags, createdAt }
}

type Answer = Completion['answers'][number]

/** How many probabilities the answers of one request may list. They take about 100 bytes each. */
const mostListed = 500_000

/** Collects the events of one column into answers. */
class Collected {
  /** The problem of the first answer that failed; null while none has failed. */
  problem: string | null = null
  readonly #keepsTokens: boolean
  readonly #answers: Answer[] = []
  readonly #promptTokens = new Map<number, number>()
  readonly #scored = new Map<number, GeneratedToken[]>()
  #listed = 0

  /** @param keepsTokens whether the answers have their tokens, or only their text because the tokens arrive as events */
  constructor(keepsTokens: boolean) {
    this.#keepsTokens = keepsTokens
  }

  take(event: GenerationEvent): void {
    if (event.type === 'prompt') this.#promptTokens.set(event.prompt, event.tokens)
    else if (event.type === 'scored prompt') this.#keepScored(event.prompt, event.tokens)
    else if (event.type === 'token') this.#count([event.token])
    else {
      const { type: _, ...answer } = event
      const { prompt } = answer
      this.problem ??= answer.problem
      const tokens = this.#keepsTokens ? answer.tokens : []
      this.#answers.push({ ...answer, tokens, promptTokens: this.#promptTokens.get(prompt) ?? 0, scored: this.#scored.get(prompt) ?? null })
    }
  }

  #keepScored(prompt: number, tokens: readonly GeneratedToken[]): void {
    this.#count(tokens)
    if (!this.#keepsTokens || this.problem !== null) return
    const known = this.#scored.get(prompt) ?? []
    for (const token of tokens) known.push(token)
    this.#scored.set(prompt, known)
  }

  #count(tokens: readonly GeneratedToken[]): void {
    if (!this.#keepsTokens) return
    for (const { alternatives } of tokens) this.#listed += 1 + alternatives.length
    if (this.#listed > mostListed)
      this.problem ??= `The answer would list more than ${mostListed.toLocaleString('en')} probabilities. Ask for fewer alternatives or prompts, or stream the answer.`
  }

  /** Returns the answers so far. Throws if one of them failed. */
  answers(): Answer[] {
    if (this.problem !== null) throw new EspalierError('invalid', this.problem)
    return this.#answers
  }
}
