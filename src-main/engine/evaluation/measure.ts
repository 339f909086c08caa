import { createHash } from 'node:crypto'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { ScoredTask } from '#contract/data/questions.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import { type BenchedFile, type Figure, promptsUpTo, usualRounds } from '#contract/exports/file-bench.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import { withinContext } from '#contract/protocol.ts'
import type { MeasuredOn, TakenMeasure } from '#contract/runs/measures.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import { inLlama } from '#contract/runs/time/speed.ts'
import type { WrittenTaskId } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { hashOf } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { benchFiles } from '#engine/llama/bench-files.ts'
import { requireFinite } from '#engine/model/finite.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { StepKind, StepRequest } from '#engine/steps/step-name.ts'
import { type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { ownThreads } from '#runtime/threads.ts'
import { answerPrompt } from './generation/answer.ts'
import { inferenceTime, referenceInference } from './inference.ts'
import { findNeedles, foundMeasure, hideNeedles, lengthsUpTo, perplexityByPosition } from './long-context.ts'
import { bitsPerByte, perplexity } from './perplexity.ts'
import { repetition } from './repetition.ts'
import { beginning } from './tasks/encode.ts'
import { evaluateTask } from './tasks/evaluate.ts'
import { isTaskId } from './tasks/index.ts'
import { readQuestions } from './tasks/questions.ts'
import type { LikelihoodModel } from './tasks/score.ts'
import { usesOfTokenizer } from './uses-of-tokenizer.ts'
import { likelihoodOf } from './view-likelihood.ts'
import { judgeAnswers, writeAnswers } from './written/evaluate.ts'
import { isWrittenTaskId, unknownTask, writtenTasks } from './written/index.ts'
import { readWritten } from './written/questions.ts'

interface MeasureContext {
  /** Opens the view to measure. Called only inside steps, so a run that finds all its steps done opens nothing. */
  view(): Promise<ModelView>
  /** The dense model that the view was pruned from, to be timed in turns with it; absent if nothing was removed. */
  readonly dense?: ModelView
  /** If the weights have a type: the GGUF files of the view, and of the dense model to be timed in turns with it. */
  readonly files?: { own(): Promise<string>; dense(): Promise<string | undefined> }
  readonly tokenizer: Tokenizer | undefined
  readonly spec: Pick<DecoderSpec, 'contextLength' | 'questionsBegin'>
  readonly signal: AbortSignal
  progress(phase: string, done: number, total: number, unit: string): void
  /** Runs a step. The view is part of its name already, so `asked.on` need not contain it. */
  step<T>(asked: StepRequest, compute: () => Promise<T>): Promise<T>
  read(data: DataRequest): Promise<{ readonly windows: Windows; readonly used: UsedData; readonly notes: readonly string[] }>
  readonly fetchFile?: FetchHubFile
}

interface Measured {
  readonly measures: TakenMeasure[]
  readonly answers: { prompt: string; text: string }[]
  /** The windows of each perplexity, in the order of the perplexities. */
  readonly evaluation: UsedData[]
  readonly notes: string[]
  /** Every question of the tasks. */
  readonly questions: ScoredTask[]
}

const nothing: Measured = { measures: [], answers: [], evaluation: [], notes: [], questions: [] }

/** Runs one measure on a view. */
export async function measureView(request: MeasureRequest, context: MeasureContext): Promise<Measured> {
  switch (request.kind) {
    case 'perplexity':
      return measurePerplexity(request, context)
    case 'inference':
      return measureInference(request, context)
    case 'repetition':
      return measureRepetition(request, context)
    case 'long context':
      return measureLongContext(request, context)
    case 'answers':
      return answerPrompts(request, context)
    case 'tasks':
      return measureTasks(request, context)
  }
}

/** Returns the text that a measure reads. Undefined if it reads none, or questions. */
export function textOf(request: MeasureRequest, { contextLength }: Pick<DecoderSpec, 'contextLength'>): DataRequest | undefined {
  switch (request.kind) {
    case 'perplexity':
    case 'repetition':
      return request.data
    case 'long context':
      return withinContext(request.data, contextLength)
    case 'inference':
    case 'answers':
    case 'tasks':
      return undefined
  }
}

type Of<Kind> = Extract<MeasureRequest, { kind: Kind }>

const perplexityStep: StepKind = { version: 2 }

async function measurePerplexity({ data, name }: Of<'perplexity'>, context: MeasureContext): Promise<Measured> {
  const { view, tokenizer, signal, progress, read, step } = context
  const { windows, used, notes } = await read(data)
  const { value, losses } = await step({ kind: perplexityStep, label: `perplexity on ${name}`, on: { windows } }, async () => {
    const report = (done: number, total: number) => progress(`Perplexity on ${name}`, done, total, 'submodules')
    const result = await perplexity(await view(), windows, { signal, progress: report })
    requireFinite([result.perplexity], `The perplexity on ${name}`)
    return { value: result.perplexity, losses: [...result.losses] }
  })
  const perByte = tokenizer && bitsPerByte(windows, losses, tokenizer.bytesOf)
  const on = {
    ...onWindows(windows, used),
    ...(tokenizer && perByte ? { text: beginningOf(windows, tokenizer), bytes: perByte.bytes } : {}),
  }
  const predicted = windows.map(({ length }) => length - 1)
  const differ = predicted.some((tokens) => tokens !== predicted[0])
  const measures: TakenMeasure[] = [
    { name: 'perplexity', dataset: name, value, unit: '', on, losses, ...(differ ? { predicted } : {}) },
    ...(perByte ? [bitsMeasure(name, perByte, on)] : []),
  ]
  return { ...nothing, measures, evaluation: [used], notes: notes.map((note) => `Perplexity on ${name}: ${note}`) }
}

function bitsMeasure(name: string, { value, error }: { value: number; error: number | undefined }, on: MeasuredOn): TakenMeasure {
  return { name: 'bits per byte', dataset: name, value, unit: '', ...(error === undefined ? {} : { error }), on }
}

const onWindows = (windows: Windows, { hash, beginToken, sequenceLength }: UsedData): MeasuredOn => ({
  hash,
  count: windows.length,
  sequenceLength,
  ...(beginToken ? { beginToken } : {}),
})

/** How much of a text identifies it for models with other tokenizers. */
const beginningCharacters = 1000

/** Returns the SHA-256 of the text's first characters, decoded from the windows. They are the same for every tokenizer. */
function beginningOf(windows: Windows, tokenizer: Tokenizer): string {
  let text = ''
  const ids: number[] = []
  for (const window of windows) {
    if (text.length >= beginningCharacters) break
    ids.push(...window)
    text = tokenizer.decode(ids, { skipSpecial: true, cleanUp: false }).trimStart()
  }
  return createHash('sha256').update(text.slice(0, beginningCharacters)).digest('hex')
}

/** Times are never shared: they belong to the run that measured them. */
const timeStep: StepKind = { version: 1, reach: 'own' }

async function measureInference(
  { sequenceLength, repeats }: Of<'inference'>,
  { view, dense, files, signal, progress, step }: MeasureContext,
): Promise<Measured> {
  const report = { signal, progress: (done: number, total: number) => progress('Inference time', done, total, files ? 'turns' : 'passes') }
  if (files) {
    const measures = await step({ kind: timeStep, label: 'inference time in llama.cpp', on: { sequenceLength, repeats } }, async () =>
      fileTimes(await files.own(), await files.dense(), { sequenceLength, repeats }, report),
    )
    return { ...nothing, measures }
  }
  const settings = {
    ...referenceInference,
    repeats,
    warmups: Math.min(repeats, referenceInference.warmups),
    decoded: Math.min(referenceInference.decoded, sequenceLength - 1),
  }
  const { measures, notes } = await step({ kind: timeStep, label: 'inference time', on: { sequenceLength, repeats } }, async () => {
    const own = await view()
    const window = Int32Array.from({ length: sequenceLength }, (_, i) => (i * 7919) % own.spec.vocabulary)
    return inferenceTime(own, [window], settings, { ...report, ...(dense ? { dense } : {}) })
  })
  return { ...nothing, measures, notes }
}

const repetitionStep: StepKind = { version: 2 }

async function measureRepetition({ data, name, tokens }: Of<'repetition'>, context: MeasureContext): Promise<Measured> {
  const { view, tokenizer, signal, progress, read, step } = context
  const { windows, used, notes } = await read(data)
  const endIds = [...(tokenizer?.endIds ?? [])]
  const report = (done: number) => progress('Continuing texts', done, windows.length, 'answers')
  const measures = await step({ kind: repetitionStep, label: `repetition on ${name}`, on: { windows, tokens, endIds } }, async () =>
    repetition(await view(), windows, name, { tokens, endIds, signal, progress: report }),
  )
  // Answers of another length are others, so the length is part of what was asked.
  const on = { ...onWindows(windows, used), hash: hashOf([...windows, Int32Array.of(tokens)]) }
  return {
    ...nothing,
    measures: measures.map((measure) => ({ ...measure, on })),
    notes: notes.map((note) => `Repetition on ${name}: ${note}`),
  }
}

const positionStep: StepKind = { version: 2 }
const needleStep: StepKind = { version: 2 }

async function measureLongContext({ data, name }: Of<'long context'>, context: MeasureContext): Promise<Measured> {
  const { view, tokenizer, spec, signal, progress, read, step } = context
  requireTokenizer(tokenizer, 'long context')
  const { windows, used, notes } = await read(withinContext(data, spec.contextLength))
  const [window = new Int32Array()] = windows
  // A text that hides a number begins as the tokenizer says, however windows begin.
  const text = used.beginToken ? window.subarray(1) : window
  const begin = tokenizer.prefixId ?? (spec.questionsBegin ? tokenizer.beginId : undefined)
  const report = (phase: string, unit: string) => ({
    signal,
    progress: (done: number, total: number) => progress(phase, done, total, unit),
  })
  const label = `perplexity by position on ${name}`
  const parts = await step({ kind: positionStep, label, on: { windows } }, async () =>
    perplexityByPosition(await view(), windows, name, report(`Perplexity by position on ${name}`, 'submodules')),
  )
  const on = onWindows(windows, used)
  const measures = parts.map((measure): TakenMeasure => ({ ...measure, on }))
  for (const length of lengthsUpTo(window.length)) {
    const needles = hideNeedles(text, length, tokenizer, begin)
    if (needles.length === 0) continue
    const on = { needles: needles.map(({ prompt, number }) => ({ prompt: [...prompt], number })) }
    const found = await step({ kind: needleStep, label: `numbers hidden in ${length} tokens`, on }, async () =>
      findNeedles(await view(), needles, tokenizer, report(`Numbers hidden in ${length} tokens`, 'texts')),
    )
    measures.push(foundMeasure(length, found, name))
  }
  return { ...nothing, measures, notes: notes.map((note) => `Long context on ${name}: ${note}`) }
}

const answersStep: StepKind = { version: 2 }

async function answerPrompts(
  { prompts, maxLength }: Of<'answers'>,
  { view, tokenizer, signal, progress, step }: MeasureContext,
): Promise<Measured> {
  requireTokenizer(tokenizer, 'answers')
  const answers = await step({ kind: answersStep, label: 'answers', on: { prompts, maxLength } }, async () => {
    const found: Measured['answers'] = []
    const own = await view()
    for (const [index, prompt] of prompts.entries()) {
      progress('Answering prompts', index, prompts.length, 'prompts')
      found.push({ prompt, text: await answerPrompt(own, tokenizer, prompt, maxLength, signal) })
    }
    progress('Answering prompts', prompts.length, prompts.length, 'prompts')
    return found
  })
  return { ...nothing, answers }
}

function requireTokenizer(tokenizer: Tokenizer | undefined, kind: keyof typeof usesOfTokenizer): asserts tokenizer {
  if (tokenizer) return
  throw new EspalierError('invalid', withoutTokenizer(usesOfTokenizer[kind]))
}

const writtenStep: StepKind = { version: 2 }
/** How many answers are stored together. An interrupted run does not generate stored answers again. */
const answersPerStep = 16

async function measureWritten(
  name: WrittenTaskId,
  { folder, limit, chat }: Omit<Of<'tasks'>, 'tasks' | 'chat'> & { chat: boolean },
  { view, tokenizer, signal, progress, fetchFile, step }: MeasureContext,
): Promise<Pick<Measured, 'measures' | 'answers' | 'notes'>> {
  requireTokenizer(tokenizer, 'tasks')
  const task = writtenTasks[name]
  const source = { ...(folder === undefined ? {} : { folder }), ...(fetchFile ? { fetchFile } : {}) }
  const { questions, leftOut } = await readWritten(name, source, limit)
  const texts: string[] = []
  for (let first = 0; first < questions.length; first += answersPerStep) {
    const some = questions.slice(first, first + answersPerStep)
    const turns = some.map((question) => question.turns.map((turn) => ({ ...turn })))
    const { tokens, stops } = task
    const on = { chat, turns, tokens, stops: [...stops], endIds: [...tokenizer.endIds] }
    const report = (done: number) => progress(task.title, first + done, questions.length, 'questions')
    const written = await step({ kind: writtenStep, label: `answers to ${name} from ${first + 1}`, on }, async () =>
      writeAnswers(await view(), tokenizer, some, { task, chat, signal, report }),
    )
    texts.push(...written)
  }
  const asked = [...leftOut.values()].reduce((sum, count) => sum + count, questions.length)
  const notes = [...leftOut].map(([reason, count]) => `${task.title}: ${count} of ${asked} prompts have ${reason} and are left out.`)
  const { measures, answers } = judgeAnswers(name, questions, texts)
  const contents = JSON.stringify([chat, task.tokens, questions.map((question) => question.turns)])
  const hash = createHash('sha256').update(contents).digest('hex')
  const taken = measures.map((measure) => ({ ...measure, on: { hash, count: measure.hits.length } }))
  return { measures: taken, answers, notes }
}

const taskStep: StepKind = { version: 2 }

async function measureTasks({ tasks: names, chat, ...source }: Of<'tasks'>, context: MeasureContext): Promise<Measured> {
  let opened: ReturnType<typeof likelihoodOf> | undefined
  const open = async () => {
    opened ??= likelihoodOf(await context.view())
    return opened
  }
  const measures: TakenMeasure[] = []
  const questions: ScoredTask[] = []
  const answers: Measured['answers'] = []
  const notes: string[] = []
  try {
    for (const name of names) {
      if (isWrittenTaskId(name)) {
        const found = await measureWritten(name, { chat: chat ?? false, ...source }, context)
        measures.push(...found.measures)
        answers.push(...found.answers)
        notes.push(...found.notes)
        continue
      }
      const found = await measureTask(name, source, open, context)
      measures.push(...found.measures)
      questions.push({ task: name, questions: found.questions })
    }
    return { ...nothing, measures, questions, answers, notes }
  } finally {
    opened?.dispose()
  }
}

async function measureTask(
  name: string,
  { folder, limit }: Omit<Of<'tasks'>, 'tasks' | 'chat'>,
  open: () => Promise<LikelihoodModel>,
  { tokenizer, spec, signal, progress, fetchFile, step }: MeasureContext,
) {
  requireTokenizer(tokenizer, 'tasks')
  if (!isTaskId(name)) throw new EspalierError('usage', unknownTask(name))
  const source = { ...(folder === undefined ? {} : { folder }), ...(fetchFile ? { fetchFile } : {}) }
  const asked = await readQuestions(name, source, limit)
  const questions = asked.map(({ requests, ...rest }) => ({ ...rest, requests: requests.map((one) => ({ ...one })) }))
  const on = { questions, ...(spec.questionsBegin ? { begins: true } : {}) }
  return step({ kind: taskStep, label: `answers to ${name}`, on }, async () =>
    evaluateTask(await open(), spec.questionsBegin ? beginning(tokenizer) : tokenizer, name, asked, {
      signal,
      report: ({ phase, done, total, unit }) => progress(phase, done, total, unit),
    }),
  )
}

/**
 * Measures a GGUF file in llama.cpp on this machine's processor: rates of prefill and decode, times to the first token, memory, and bytes
 * of the KV cache. Values are medians of all turns, and `error` is half the distance between the lowest and the highest. With `dense`, the
 * two files take turns, and the speed-ups are ratios of the medians.
 */
async function fileTimes(
  file: string,
  dense: string | undefined,
  { sequenceLength, repeats }: { sequenceLength: number; repeats: number },
  report: { signal: AbortSignal; progress(done: number, total: number): void },
): Promise<TakenMeasure[]> {
  const settings = {
    prompts: promptsUpTo(sequenceLength),
    rounds: Math.min(repeats, usualRounds),
    threads: ownThreads(),
    device: 'CPU',
    texts: [],
  }
  const { files } = await benchFiles(dense === undefined ? [file] : [file, dense], settings, report)
  const [own, other] = files as [BenchedFile, BenchedFile | undefined]
  return [...costsOf(own), ...(other ? speedUps(own, other) : [])]
}

function costsOf({ prefill, decode, firstToken, memoryBytes, keyValueBytes }: BenchedFile): TakenMeasure[] {
  const times = firstToken.map(({ tokens, seconds: { value, low, high } }) => ({
    name: 'time to first token' as const,
    dataset: inLlama(`${tokens} tokens`),
    value: 1000 * value,
    error: (1000 * (high - low)) / 2,
    unit: 'ms',
  }))
  return [
    rate('prefill', prefill),
    rate('decode', decode),
    ...times,
    { name: 'memory', dataset: inLlama(`${firstToken.at(-1)?.tokens} tokens`), value: memoryBytes, unit: 'bytes' },
    { name: 'KV cache per token', dataset: inLlama(), value: keyValueBytes, unit: 'bytes' },
  ]
}

const rate = (what: string, { value, low, high }: Figure): TakenMeasure => ({
  name: 'tokens per second',
  dataset: inLlama(what),
  value,
  error: (high - low) / 2,
  unit: 'tokens/s',
})

/** The speed-ups over the other file. */
function speedUps(own: BenchedFile, other: BenchedFile): TakenMeasure[] {
  return (['prefill', 'decode'] as const).map((what) => ({
    name: 'speed-up',
    dataset: inLlama(what),
    value: own[what].value / other[what].value,
    unit: '×',
  }))
}
