import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { GeneratedToken, GenerationEvent, GenerationRequest } from '#contract/playground/generation.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { keptAnswers } from '#engine/model/decoding/kept-answers.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { acquireModel, openModelTokenizer, openTrimmed } from '#engine/model/kept-model.ts'
import { type ModelView, openView } from '#engine/model/views/view.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import { type Tokenizer, withBegin, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { beamSearch } from './beam-search.ts'
import { chooseToken, logProbabilities, topIndices } from './sampling.ts'
import { StopText } from './stop-text.ts'

interface GenerationHost {
  emit(event: GenerationEvent): void
  readonly signal: AbortSignal
  /** The signal of one column. It aborts when this column or the whole request is stopped. */
  columnSignal(column: number): AbortSignal
  /** Waits while the reader of the events is too slow. */
  flow(): Promise<void>
}

/** How many tokens of a scored prompt one event has. */
const scoredAtOnce = 64

type Answer = Extract<GenerationEvent, { type: 'answer' }>

/**
 * Answers prompts with several plans of one model, side by side. Weights are loaded once. Tokens are reported when they are generated, with
 * their probability and the likeliest alternatives. All columns start from the same seed.
 */
export async function generateColumns(request: GenerationRequest, host: GenerationHost): Promise<void> {
  await openBackend(request.backend)
  const model = await acquireModel(request.model, request.memoryBytes)
  const tokenizer = await openModelTokenizer(model)
  if (!tokenizer) throw new EspalierError('invalid', withoutTokenizer('answer', model.name))
  await Promise.all(
    request.columns.map(async ({ plan }, column) => {
      const own = (await openTrimmed(model, plan, tokenizer))?.tokenizer ?? tokenizer
      const view = await openView(model, plan)
      try {
        for (const prompt of request.prompts.keys()) await new ColumnAnswer({ request, host, view, tokenizer: own, column, prompt }).run()
      } finally {
        view.dispose()
      }
    }),
  )
}

/** Returns one view's answer to one prompt, which is the same as in `generateColumns`. Reports nothing, and throws if the answer fails. */
export async function answerWith({
  signal,
  ...context
}: Omit<ColumnContext, 'host'> & { readonly signal: AbortSignal }): Promise<Omit<Answer, 'type'>> {
  let reported: Answer | undefined
  const emit = (event: GenerationEvent) => {
    if (event.type === 'answer') reported = event
  }
  await new ColumnAnswer({ ...context, host: { emit, signal, columnSignal: () => signal, flow: async () => {} } }).run()
  signal.throwIfAborted()
  if (!reported || reported.problem !== null) throw new EspalierError('invalid', reported?.problem ?? 'The model gave no answer.')
  const { type: _, ...answer } = reported
  return answer
}

interface ColumnContext {
  readonly request: Pick<GenerationRequest, 'prompts' | 'settings' | 'scoresPrompts'>
  readonly host: GenerationHost
  readonly view: ModelView
  readonly tokenizer: Tokenizer
  readonly column: number
  readonly prompt: number
}

/** One column's answer to one prompt. */
class ColumnAnswer {
  readonly #context: ColumnContext
  readonly #signal: AbortSignal
  readonly #tokens: GeneratedToken[] = []
  readonly #start = performance.now()
  readonly #stop: StopText
  #stream: TextStream
  #text = ''
  /** Whether the prompt got a begin token that its text does not have. */
  #begins = false
  #firstTokenSeconds: number | null = null

  constructor(context: ColumnContext) {
    this.#context = context
    this.#signal = context.host.columnSignal(context.column)
    this.#stop = new StopText(context.request.settings.stop ?? [])
    this.#stream = new TextStream(context.tokenizer)
  }

  async run(): Promise<void> {
    const { request, view, tokenizer, column, prompt, host } = this.#context
    try {
      const ids = this.#promptIds()
      this.#stream = new TextStream(tokenizer, { context: ids })
      host.emit({ type: 'prompt', column, prompt, tokens: ids.length, text: request.prompts[prompt]?.text ?? '' })
      const limit = Math.min(
        request.settings.maxLength ?? Number.POSITIVE_INFINITY,
        ids.length + request.settings.maxTokens,
        view.spec.contextLength,
      )
      const end = request.settings.decoding.kind === 'beam' ? await this.#beam(ids, limit) : await this.#sample(ids, limit)
      if (end !== 'stop text') this.#text += this.#stop.push(this.#stream.finish()).text + this.#stop.finish()
      this.#finish(end, null)
    } catch (error) {
      if (this.#signal.aborted) this.#finish('stopped', null)
      else this.#finish('failed', error instanceof Error ? error.message : String(error))
    }
  }

  #promptIds(): number[] {
    const { request, tokenizer, column, prompt, view } = this.#context
    const own = request.prompts[prompt] ?? { text: '' }
    const { text, continueFrom = [], messages, histories = [] } = request.prompts[own.sameAs ?? prompt] ?? own
    const { template, system } = request.settings
    const before = [...(system ? [{ role: 'system', content: system }] : []), ...(histories[column] ?? [])]
    const asked = messages ?? [...before, { role: 'user', content: text }]
    const whole = messages || template === 'chat' ? tokenizer.chat(asked, { addGenerationPrompt: true }) : text
    if (whole === undefined) throw new EspalierError('invalid', 'This model has no chat template. Choose raw text.')
    const { contextLength, vocabulary } = view.spec
    const unknown = continueFrom.find((id) => id >= vocabulary)
    if (unknown !== undefined) throw new EspalierError('usage', `The token id ${unknown} does not exist: this model has ${vocabulary}.`)
    const encoded = tokenizer.encode(whole)
    const begun = withBegin(tokenizer, encoded)
    this.#begins = begun.length > encoded.length
    const ids = [...begun, ...continueFrom]
    if (ids.length === 0) throw new EspalierError('usage', 'An empty prompt cannot be answered. Write at least one word.')
    if (ids.length >= contextLength)
      throw new EspalierError(
        'usage',
        `The prompt has ${ids.length} tokens; this model reads at most ${contextLength}. Shorten the prompt.`,
      )
    return ids
  }

  async #sample(prompt: number[], limit: number): Promise<Answer['end']> {
    const { request, view, tokenizer } = this.#context
    const { decoding } = request.settings
    if (decoding.kind !== 'sampling') throw new Error('sampling was asked for with other settings')
    const random = new PythonRandom(request.prompts[this.#context.prompt]?.seed ?? request.settings.seed)
    const answers = keptAnswers(view.model)
    const { session, known } = request.scoresPrompts ? { session: new DecodingSession(view), known: 0 } : answers.begin(view, prompt)
    const ids = [...prompt]
    try {
      let logits = await this.#read(session, Int32Array.from(ids.slice(known)))
      while (ids.length < limit && logits) {
        const id = chooseToken(logits, ids, decoding, () => random.random())
        this.#firstTokenSeconds ??= this.#seconds()
        ids.push(id)
        if (tokenizer.endIds.includes(id)) {
          // Clients that score a prompt expect each generated token after it, including the end token.
          if (request.scoresPrompts) this.#keep(this.#describe(id, this.#stream, logProbabilities(logits), () => ''))
          return 'end of text'
        }
        if (this.#tell(id, logProbabilities(logits))) return 'stop text'
        await this.#context.host.flow()
        if (ids.length < limit) [logits] = await session.feed(Int32Array.of(id), 1, this.#signal)
      }
      return 'length'
    } finally {
      answers.keep(view, ids, session)
      session.dispose()
    }
  }

  /** Feeds the prompt. Returns the logits after it, and reports the probabilities of the prompt's tokens if requested. */
  async #read(session: DecodingSession, ids: Int32Array): Promise<Float32Array | undefined> {
    const { request, host, tokenizer, column, prompt } = this.#context
    if (!request.scoresPrompts) return (await session.feed(ids, 1, this.#signal))[0]
    const stream = new TextStream(tokenizer, { skipSpecial: false })
    // An added begin token is no part of the prompt's text.
    const first = this.#begins ? 1 : 0
    const start = ids[first] ?? 0
    let tokens: GeneratedToken[] = [{ id: start, text: stream.push(start), probability: 1, alternatives: [] }]
    let [place, last] = [0, undefined as Float32Array | undefined]
    const tell = () => {
      host.emit({ type: 'scored prompt', column, prompt, tokens })
      tokens = []
      return host.flow()
    }
    await session.feedAlong(
      ids,
      0,
      async (logits) => {
        last = logits
        const id = ids[++place]
        if (id !== undefined && place > first) tokens.push(this.#describe(id, stream, logProbabilities(logits), () => stream.push(id)))
        if (tokens.length >= scoredAtOnce) await tell()
      },
      this.#signal,
    )
    if (tokens.length > 0) await tell()
    return last
  }

  async #beam(prompt: number[], limit: number): Promise<Answer['end']> {
    const { request, view, tokenizer } = this.#context
    const { decoding } = request.settings
    if (decoding.kind !== 'beam') throw new Error('beam search was asked for with other settings')
    const answer = await beamSearch(view, prompt, { ...decoding, maxLength: limit, endIds: tokenizer.endIds }, { signal: this.#signal })
    const generated = answer.ids.slice(prompt.length)
    this.#firstTokenSeconds = this.#seconds()
    const ended = tokenizer.endIds.includes(generated.at(-1) ?? -1)
    const stopped = await this.#reportAll(prompt, ended ? generated.slice(0, -1) : generated)
    if (stopped) return 'stop text'
    return ended ? 'end of text' : 'length'
  }

  /** Reports a finished answer token by token. One pass over it gives the model's probabilities. */
  async #reportAll(prompt: number[], generated: number[]): Promise<boolean> {
    if (generated.length === 0) return false
    const session = new DecodingSession(this.#context.view)
    let [place, stopped] = [0, false]
    const read = (logits: Float32Array) => {
      const id = generated[place++]
      if (id !== undefined && !stopped) stopped = this.#tell(id, logProbabilities(logits))
    }
    try {
      await session.feedAlong(Int32Array.from([...prompt, ...generated.slice(0, -1)]), prompt.length - 1, read, this.#signal)
      return stopped
    } finally {
      session.dispose()
    }
  }

  /** Adds a token to the answer. Returns whether its text has reached a stop text. */
  #tell(id: number, scores: Float64Array): boolean {
    let stopped = false
    const take = () => {
      const taken = this.#stop.push(this.#stream.push(id))
      stopped = taken.stopped
      return taken.text
    }
    this.#keep(this.#describe(id, this.#stream, scores, take))
    return stopped
  }

  #keep(token: GeneratedToken): void {
    const { host, column, prompt } = this.#context
    this.#text += token.text
    this.#tokens.push(token)
    host.emit({ type: 'token', column, prompt, token })
  }

  /** Describes a token. Its alternatives have the text that they would add to `stream`, to which `take` then adds the token. */
  #describe(id: number, stream: TextStream, scores: Float64Array, take: () => string): GeneratedToken {
    const others = topIndices(scores, this.#context.request.settings.alternatives).map((other) => ({
      id: other,
      text: stream.peek(other),
      probability: Math.exp(at(scores, other)),
    }))
    const text = take()
    // The same token has the same text, even if a part of it is held back.
    const alternatives = others.map((other) => (other.id === id ? { ...other, text } : other))
    return { id, text, probability: Math.exp(scores[id] ?? Number.NEGATIVE_INFINITY), alternatives }
  }

  #seconds(): number {
    return (performance.now() - this.#start) / 1000
  }

  #finish(end: Answer['end'], problem: string | null): void {
    const { host, column, prompt } = this.#context
    const seconds = this.#seconds()
    host.emit({
      type: 'answer',
      column,
      prompt,
      text: this.#text,
      tokens: this.#tokens,
      end,
      seconds,
      firstTokenSeconds: this.#firstTokenSeconds,
      tokensPerSecond: this.#tokens.length > 0 ? this.#tokens.length / seconds : null,
      problem,
    })
  }
}
