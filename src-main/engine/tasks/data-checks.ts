import type { DataRequest } from '#contract/data/data-request.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { withinContext } from '#contract/protocol.ts'
import type { Problem, RequestPreview } from '#contract/runs/preflight.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { selfWritten } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { fileOfDataset, isDatasetId } from '#engine/data/named.ts'
import { readData } from '#engine/data/read-data.ts'
import { isTaskId } from '#engine/evaluation/tasks/index.ts'
import { checkQuestions, questionFiles } from '#engine/evaluation/tasks/questions.ts'
import { usesOfTokenizer } from '#engine/evaluation/uses-of-tokenizer.ts'
import { requireRoom } from '#engine/evaluation/written/evaluate.ts'
import { isWrittenTaskId, unknownTask, writtenTasks } from '#engine/evaluation/written/index.ts'
import { type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'

/** A model before any weight is read. */
export interface Outside {
  readonly path: string
  readonly name: string
  /** The closed checkpoint. Only names and shapes of tensors can be read. */
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly tokenizer: Tokenizer | undefined
}

/** Checks the texts, questions and prompts of one request, and collects its problems and the files to download. */
export class DataChecks {
  readonly problems: Problem[] = []
  readonly fetches: RequestPreview['fetches'] = []
  readonly #request: RunRequest
  readonly #model: Outside
  /** Results of checks that several requests share, by what was checked. */
  readonly #answers: Map<string, Promise<Problem[]>>

  constructor(request: RunRequest, model: Outside, answers: Map<string, Promise<Problem[]>>) {
    this.#request = request
    this.#model = model
    this.#answers = answers
  }

  refuse(field: string, code: Problem['code'], message: string): void {
    this.problems.push({ field, code, message })
  }

  async data(field: string, { source, mix, sequenceLength }: DataRequest): Promise<void> {
    for (const part of mix ?? [{ source }]) await this.#text(field, part.source, sequenceLength)
  }

  async #text(field: string, source: string, sequenceLength: number): Promise<void> {
    const { localFolder } = this.#request
    const { spec, tokenizer } = this.#model
    if (source === selfWritten && field === 'recover.text') {
      if (!tokenizer) this.refuse(field, 'invalid', withoutTokenizer('write text'))
      return
    }
    if (isDatasetId(source) && localFolder === undefined) {
      if (!tokenizer) this.refuse(field, 'invalid', withoutTokenizer('read text'))
      this.fetches.push({ field, ...fileOfDataset(source) })
      return
    }
    // Reading one window shows that the text exists, is readable and is long enough.
    const read = () => readData({ spec }, tokenizer, { source, sequenceLength, windows: 1 }, 0, { localFolder })
    await this.#once(`${source} ${sequenceLength}`, field, read)
  }

  async measure(field: string, measure: MeasureRequest): Promise<void> {
    if (measure.kind === 'perplexity' || measure.kind === 'repetition') return this.data(`${field}.data`, measure.data)
    if (measure.kind === 'inference') return
    const { tokenizer, spec } = this.#model
    if (!tokenizer) return this.refuse(field, 'invalid', withoutTokenizer(usesOfTokenizer[measure.kind]))
    if (measure.kind === 'long context') return this.data(`${field}.data`, withinContext(measure.data, spec.contextLength))
    if (measure.kind === 'tasks') return this.#questions(field, measure, tokenizer)
    for (const prompt of measure.prompts) {
      const { length } = tokenizer.encode(prompt)
      if (length === 0 || length >= measure.maxLength)
        this.refuse(
          `${field}.prompts`,
          'usage',
          `The prompt "${prompt.slice(0, 40)}" has ${length} tokens; prompt and answer together may have ${measure.maxLength}.`,
        )
    }
  }

  async #questions(field: string, measure: Extract<MeasureRequest, { kind: 'tasks' }>, { chats }: Tokenizer): Promise<void> {
    const { tasks, folder, chat } = measure
    const { contextLength } = this.#model.spec
    for (const task of tasks) {
      if (isWrittenTaskId(task)) {
        await this.#once(`${task} in ${contextLength}`, field, async () => requireRoom(writtenTasks[task], contextLength))
        if (chat && !chats) this.refuse(field, 'invalid', 'This model has no chat template. Ask the questions as plain text.')
      } else if (!isTaskId(task)) {
        this.refuse(field, 'usage', unknownTask(task))
        continue
      }
      if (folder !== undefined) await this.#once(`${folder} ${task}`, field, () => checkQuestions(task, folder))
      else for (const file of questionFiles(task)) this.fetches.push({ field, ...file })
    }
  }

  /** Checks the data of an inspection: its text, or that its prompts fit the model's context. */
  async inspection(): Promise<void> {
    const { inspect } = this.#request
    if (inspect?.kind === 'divergence') return this.data('inspect.data', inspect.data)
    if (inspect?.kind !== 'generation') return
    const { tokenizer, spec } = this.#model
    if (!tokenizer) return this.refuse('inspect', 'invalid', withoutTokenizer('answer prompts'))
    for (const { text } of inspect.prompts) {
      const { length } = tokenizer.encode(text)
      if (length === 0 || length >= spec.contextLength)
        this.refuse(
          'inspect.prompts',
          'usage',
          `The prompt "${text.slice(0, 40)}" has ${length} tokens; this model reads 1 to ${spec.contextLength - 1}.`,
        )
    }
  }

  /** Runs a check, once for all requests that share it. */
  async #once(what: string, field: string, look: () => Promise<unknown>): Promise<void> {
    const key = `${this.#model.path} ${this.#request.localFolder ?? ''} ${what}`
    const known =
      this.#answers.get(key) ??
      look().then(
        () => [],
        (thrown: unknown) => [toProblem('', thrown)],
      )
    this.#answers.set(key, known)
    this.problems.push(...(await known).map((problem) => ({ ...problem, field })))
  }
}

export function toProblem(field: string, thrown: unknown): Problem {
  const { code, message } = toErrorMessage(thrown)
  return { field, code, message }
}
