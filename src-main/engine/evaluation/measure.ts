import type { DataRequest } from '#contract/data/data-request.ts'
import type { ScoredTask } from '#contract/data/questions.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { Measure } from '#contract/runs/measures.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import type { Windows } from '#engine/data/windows.ts'
import { requireFinite } from '#engine/model/finite.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { answerPrompt } from './generation/answer.ts'
import { inferenceTime, referenceInference } from './inference.ts'
import { perplexity } from './perplexity.ts'
import { evaluateTask } from './tasks/evaluate.ts'
import { isTaskId, taskIds } from './tasks/index.ts'
import { likelihoodOf } from './view-likelihood.ts'

export interface MeasureContext {
  readonly view: ModelView
  /** The model that the view was pruned from, to be timed beside it; absent where nothing was removed. */
  readonly dense?: ModelView
  readonly tokenizer: Tokenizer | undefined
  readonly signal: AbortSignal
  progress(phase: string, done: number, total: number, unit: string): void
  read(data: DataRequest): Promise<{ readonly windows: Windows; readonly used: UsedData; readonly notes: readonly string[] }>
  readonly fetchFile?: FetchHubFile
}

export interface Measured {
  readonly measures: Measure[]
  readonly answers: { prompt: string; text: string }[]
  /** The windows that it was taken on. */
  readonly evaluation: UsedData[]
  readonly notes: string[]
  /** Every question of its tasks. */
  readonly questions: ScoredTask[]
}

const nothing: Measured = { measures: [], answers: [], evaluation: [], notes: [], questions: [] }

/** Takes one measure of a view. */
export async function measureView(request: MeasureRequest, context: MeasureContext): Promise<Measured> {
  switch (request.kind) {
    case 'perplexity':
      return measurePerplexity(request, context)
    case 'inference':
      return measureInference(request, context)
    case 'answers':
      return answerPrompts(request, context)
    case 'tasks':
      return measureTasks(request, context)
  }
}

type Of<Kind> = Extract<MeasureRequest, { kind: Kind }>

async function measurePerplexity({ data, name }: Of<'perplexity'>, { view, signal, progress, read }: MeasureContext): Promise<Measured> {
  const { windows, used, notes } = await read(data)
  const result = await perplexity(view, windows, {
    signal,
    progress: (done, total) => progress(`Perplexity on ${name}`, done, total, 'submodules'),
  })
  requireFinite([result.perplexity], `The perplexity on ${name}`)
  const measure = { name: 'perplexity', dataset: name, value: result.perplexity, unit: '' }
  return { ...nothing, measures: [measure], evaluation: [used], notes: notes.map((note) => `Perplexity on ${name}: ${note}`) }
}

async function measureInference(
  { sequenceLength, repeats }: Of<'inference'>,
  { view, dense, signal, progress }: MeasureContext,
): Promise<Measured> {
  const { vocabulary } = view.spec
  const window = Int32Array.from({ length: sequenceLength }, (_, i) => (i * 7919) % vocabulary)
  const settings = {
    ...referenceInference,
    repeats,
    warmups: Math.min(repeats, referenceInference.warmups),
    decoded: Math.min(referenceInference.decoded, sequenceLength - 1),
  }
  const { measures, notes } = await inferenceTime(view, [window], settings, {
    signal,
    progress: (done, total) => progress('Inference time', done, total, 'passes'),
    ...(dense ? { dense } : {}),
  })
  return { ...nothing, measures, notes }
}

async function answerPrompts(
  { prompts, maxLength }: Of<'answers'>,
  { view, tokenizer, signal, progress }: MeasureContext,
): Promise<Measured> {
  if (!tokenizer)
    throw new EspalierError(
      'invalid',
      'This model has no tokenizer.json, so it cannot answer prompts. Place its tokenizer.json in the folder.',
    )
  const answers: Measured['answers'] = []
  for (const [index, prompt] of prompts.entries()) {
    progress('Answering prompts', index, prompts.length, 'prompts')
    answers.push({ prompt, text: await answerPrompt(view, tokenizer, prompt, maxLength, signal) })
  }
  progress('Answering prompts', prompts.length, prompts.length, 'prompts')
  return { ...nothing, answers }
}

async function measureTasks(
  { tasks: names, folder, limit }: Of<'tasks'>,
  { view, tokenizer, signal, progress, fetchFile }: MeasureContext,
): Promise<Measured> {
  if (!tokenizer)
    throw new EspalierError(
      'invalid',
      'This model has no tokenizer.json, so it cannot read questions. Place its tokenizer.json in the folder.',
    )
  const model = likelihoodOf(view)
  const measures: Measure[] = []
  const questions: ScoredTask[] = []
  try {
    for (const name of names) {
      if (!isTaskId(name)) throw new EspalierError('usage', `There is no task "${name}". Known are: ${taskIds.join(', ')}.`)
      const found = await evaluateTask(model, tokenizer, name, {
        signal,
        report: ({ phase, done, total, unit }) => progress(phase, done, total, unit),
        ...(folder === undefined ? {} : { folder }),
        ...(limit === undefined ? {} : { limit }),
        ...(fetchFile ? { fetchFile } : {}),
      })
      measures.push(...found.measures)
      questions.push({ task: name, questions: found.questions })
    }
    return { ...nothing, measures, questions }
  } finally {
    model.dispose()
  }
}
