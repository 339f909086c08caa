import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { GeneratedToken, GenerationEvent, GenerationRequest } from '#contract/playground/generation.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { keptAnswers } from '#engine/model/decoding/kept-answers.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { acquireModel, openModelTokenizer } from '#engine/model/kept-model.ts'
import { type ModelView, openView } from '#engine/model/views/view.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { beamSearch } from './beam-search.ts'
import { logProbabilities, topIndices } from './probabilities.ts'
import { chooseToken } from './sampling.ts'

interface GenerationHost {
  emit(event: GenerationEvent): void
  readonly signal: AbortSignal
  /** Aborts when one column is stopped, or all of them. */
  columnSignal(column: number): AbortSignal
}

type Answer = Extract<GenerationEvent, { type: 'answer' }>

/**
 * Answers prompts with several plans over one model, side by side: weights are loaded once, tokens are reported as they come, with
 * their probability and the likeliest alternatives. All columns start from the same seed.
 */
export async function generateColumns(request: GenerationRequest, host: GenerationHost): Promise<void> {
  await openBackend(request.backend)
  const model = await acquireModel(request.model, request.memoryBytes)
  const tokenizer = await openModelTokenizer(model)
  if (!tokenizer)
    throw new EspalierError('invalid', `${model.name} has no tokenizer.json, so it cannot answer. Place its tokenizer.json in the folder.`)
  await Promise.all(
    request.columns.map(async ({ plan }, column) => {
      const view = await openView(model, plan)
      try {
        for (const prompt of request.prompts.keys()) await new ColumnAnswer({ request, host, view, tokenizer, column, prompt }).run()
      } finally {
        view.dispose()
      }
    }),
  )
}

/** One answer of one view, without reports: the same as `generateColumns` gives. A failure is thrown. */
export async function answerWith({
  signal,
  ...context
}: Omit<ColumnContext, 'host'> & { readonly signal: AbortSignal }): Promise<Omit<Answer, 'type'>> {
  let told: Answer | undefined
  const emit = (event: GenerationEvent) => {
    if (event.type === 'answer') told = event
  }
  await new ColumnAnswer({ ...context, host: { emit, signal, columnSignal: () => signal } }).run()
  signal.throwIfAborted()
  if (!told || told.problem !== null) throw new EspalierError('invalid', told?.problem ?? 'The model gave no answer.')
  const { type: _, ...answer } = told
  return answer
}

interface ColumnContext {
  readonly request: Pick<GenerationRequest, 'prompts' | 'settings'>
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
  #firstTokenSeconds: number | null = null

  constructor(context: ColumnContext) {
    this.#context = context
    this.#signal = context.host.columnSignal(context.column)
  }

  async run(): Promise<void> {
    const { request, view, column, prompt, host } = this.#context
    try {
      const ids = this.#promptIds()
      host.emit({ type: 'prompt', column, prompt, tokens: ids.length, text: request.prompts[prompt]?.text ?? '' })
      const limit = Math.min(
        request.settings.maxLength ?? Number.POSITIVE_INFINITY,
        ids.length + request.settings.maxTokens,
        view.spec.contextLength,
      )
      const end = request.settings.decoding.kind === 'beam' ? await this.#beam(ids, limit) : await this.#sample(ids, limit)
      this.#finish(end, null)
    } catch (error) {
      if (this.#signal.aborted) this.#finish('stopped', null)
      else this.#finish('failed', error instanceof Error ? error.message : String(error))
    }
  }

  #promptIds(): number[] {
    const { request, tokenizer, prompt, view } = this.#context
    const { text, continueFrom } = request.prompts[prompt] ?? { text: '' }
    const { template, system } = request.settings
    const messages = [...(system ? [{ role: 'system', content: system }] : []), { role: 'user', content: text }]
    const whole = template === 'chat' ? tokenizer.chat(messages, { addGenerationPrompt: true }) : text
    if (whole === undefined) throw new EspalierError('invalid', 'This model has no chat template. Choose raw text.')
    const ids = [...tokenizer.encode(whole), ...(continueFrom ?? [])]
    if (ids.length === 0) throw new EspalierError('usage', 'An empty prompt cannot be answered. Write at least one word.')
    if (ids.length >= view.spec.contextLength)
      throw new EspalierError('usage', `The prompt has ${ids.length} tokens; this model reads at most ${view.spec.contextLength}.`)
    return ids
  }

  async #sample(prompt: number[], limit: number): Promise<Answer['end']> {
    const { request, view, tokenizer } = this.#context
    const { decoding, seed } = request.settings
    if (decoding.kind !== 'sampling') throw new Error('sampling was asked for with other settings')
    const random = new PythonRandom(seed)
    const stream = new TextStream(tokenizer, { context: prompt })
    const answers = keptAnswers(view.model)
    const { session, known } = answers.begin(view, prompt)
    const ids = [...prompt]
    try {
      let [logits] = await session.feed(Int32Array.from(ids.slice(known)), 1, this.#signal)
      while (ids.length < limit && logits) {
        const id = chooseToken(logits, ids, decoding, () => random.random())
        this.#firstTokenSeconds ??= this.#seconds()
        ids.push(id)
        if (tokenizer.endIds.includes(id)) return 'end of text'
        this.#tell(id, stream.push(id), logProbabilities(logits))
        if (ids.length < limit) [logits] = await session.feed(Int32Array.of(id), 1, this.#signal)
      }
      return 'length'
    } finally {
      answers.keep(view, ids, session)
      session.dispose()
    }
  }

  async #beam(prompt: number[], limit: number): Promise<Answer['end']> {
    const { request, view, tokenizer } = this.#context
    const { decoding } = request.settings
    if (decoding.kind !== 'beam') throw new Error('beam search was asked for with other settings')
    const answer = await beamSearch(view, prompt, { ...decoding, maxLength: limit, endIds: tokenizer.endIds }, { signal: this.#signal })
    const generated = answer.ids.slice(prompt.length)
    this.#firstTokenSeconds = this.#seconds()
    const ended = tokenizer.endIds.includes(generated.at(-1) ?? -1)
    await this.#tellAll(prompt, ended ? generated.slice(0, -1) : generated)
    return ended ? 'end of text' : 'length'
  }

  /** Tells a finished answer token by token, with the probabilities that the model gives along the way, in one pass. */
  async #tellAll(prompt: number[], generated: number[]): Promise<void> {
    const session = new DecodingSession(this.#context.view)
    const stream = new TextStream(this.#context.tokenizer, { context: prompt })
    try {
      const scores = await session.logitsAlong([...prompt, ...generated], prompt.length, this.#signal)
      for (const [index, id] of generated.entries()) this.#tell(id, stream.push(id), logProbabilities(scores[index] ?? []))
    } finally {
      session.dispose()
    }
  }

  #tell(id: number, text: string, scores: Float64Array): void {
    const { request, host, tokenizer, column, prompt } = this.#context
    const alternatives = topIndices(scores, request.settings.alternatives).map((other) => ({
      id: other,
      text: tokenizer.decode([other]),
      probability: Math.exp(at(scores, other)),
    }))
    const token = { id, text, probability: Math.exp(scores[id] ?? Number.NEGATIVE_INFINITY), alternatives }
    this.#tokens.push(token)
    host.emit({ type: 'token', column, prompt, token })
  }

  #seconds(): number {
    return (performance.now() - this.#start) / 1000
  }

  #finish(end: Answer['end'], problem: string | null): void {
    const { host, tokenizer, column, prompt } = this.#context
    const seconds = this.#seconds()
    const text = tokenizer.decode(
      this.#tokens.map(({ id }) => id),
      { skipSpecial: true },
    )
    host.emit({
      type: 'answer',
      column,
      prompt,
      text,
      tokens: this.#tokens,
      end,
      seconds,
      firstTokenSeconds: this.#firstTokenSeconds,
      tokensPerSecond: this.#tokens.length > 0 ? this.#tokens.length / seconds : null,
      problem,
    })
  }
}
