import { isDeepStrictEqual } from 'node:util'
import type { DataRequest } from '#contract/data/data-request.ts'
import { paperAnswers, referenceRepeats, usualLongContext, usualRepetition } from '#contract/protocol.ts'
import { type RecoveryAmount, recoveryLength } from '#contract/pruning/recovery.ts'
import { isPlain, mixedBudget, speedText } from '#contract/runs/amount-text.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod, isAblation } from '#contract/titles.ts'

/**
 * Returns the command that repeats a run, and after it a shell comment with the settings that have no flag. Undefined for runs that inspect
 * other runs.
 */
export function commandOf(model: string, request: RunRequest): string | undefined {
  if (request.inspect) return undefined
  const { method, amount, seed, options, calibration, vocabulary, repair, recover, backend, precision, memoryBytes, localFolder } = request
  const length = lengthOf(request)
  const words = [
    'espalier',
    flag('model', model),
    ...workOf(method, amount),
    ...Object.entries(options).map(([name, value]) => flag('option', `${name}=${Array.isArray(value) ? `[${value.join(',')}]` : value}`)),
    ...(seed === 0 ? [] : [flag('seed', seed)]),
    ...(calibration ? dataFlags(calibration.split ? 'for' : 'calibration_data', 'calibration_samples', calibration) : []),
    ...(vocabulary ? [flag('vocabulary', 'rows' in vocabulary ? vocabulary.rows : `${Number((100 * vocabulary.share).toFixed(6))}%`)] : []),
    ...(repair ? [flag('repair', repair.kind), ...dataFlags('repair_data', 'repair_samples', repair.calibration)] : []),
    ...(recover ? [flag('recover', recoverText(recover.amount)), ...dataFlags('recover_data', '', recover.text)] : []),
    ...(recover?.trains ? [flag('recover_weights', recover.trains)] : []),
    ...(length === undefined ? [] : [flag('sequence_length', length)]),
    ...(request.beginToken === 'auto' ? [] : [flag('begin_token', request.beginToken ?? 'reference')]),
    ...measureFlags(request),
    ...(request.weights ? [flag('weights', request.weights)] : []),
    ...(backend === 'auto' ? [] : [flag('backend', backend)]),
    ...(precision ? [flag('precision', precision)] : []),
    ...(memoryBytes === undefined ? [] : [flag('memory', memoryBytes)]),
    ...(localFolder ? ['--local_datasets'] : []),
  ]
  const missing = missingOf(request, length)
  return [...words, ...(missing.length > 0 ? [`# without: ${missing.join(', ')}`] : [])].join(' ')
}

const recoverText = (amount: RecoveryAmount): string => ('tokens' in amount ? `${amount.tokens}` : `${amount.minutes}min`)

function measureFlags(request: RunRequest): string[] {
  const perplexities = perplexitiesOf(request)
  const windows = perplexities[0]?.data.windows
  const asks = (kind: MeasureRequest['kind']) => request.measures.some((measure) => measure.kind === kind)
  return [
    ...perplexities.flatMap(({ data }) => (data.split ? [] : [flag('eval_data', data.source)])),
    ...(windows === undefined ? [] : [flag('eval_samples', windows)]),
    ...request.measures.flatMap((measure) => (measure.kind === 'tasks' ? taskFlags(measure) : [])),
    ...(asks('inference') ? ['--evaluate_inference'] : []),
    ...(asks('repetition') ? ['--evaluate_repetition'] : []),
    ...(asks('long context') ? ['--evaluate_long_context'] : []),
    ...(asks('answers') ? ['--evaluate_qualitative'] : []),
  ]
}

function taskFlags({ tasks, folder, limit, chat }: Extract<MeasureRequest, { kind: 'tasks' }>): string[] {
  return [
    flag('tasks', tasks.join(',')),
    ...(folder ? [flag('task_folder', folder)] : []),
    ...(limit ? [flag('task_limit', limit)] : []),
    ...(chat ? ['--apply_chat_template'] : []),
  ]
}

function workOf(method: string, amount: RunRequest['amount']): string[] {
  if (method === denseMethod) return ['--dense']
  if (isAblation(method)) return [flag('ablation', method)]
  if ('bytes' in amount) {
    const { bytes, format, type } = amount
    if (mixedBudget(amount)) return [flag('pruning_method', method), flag('fit', `MIXED:${bytes}B`)]
    return [flag('pruning_method', method), flag('fit', `${bytes}B`), flag('format', format), ...(type ? [flag('gguf_type', type)] : [])]
  }
  if (!isPlain(amount)) return [flag('pruning_method', method), flag('fit', speedText(amount))]
  if ('experts' in amount) return [flag('pruning_method', method), flag('expert_share', amount.experts)]
  return [flag('pruning_method', method), 'sparsity' in amount ? flag('sparsity', amount.sparsity) : flag('num_prune', amount.blocks)]
}

/** Returns the window length for the flag. A command has only one: that of the calibration, else that of the first measure. */
function lengthOf({ calibration, measures }: RunRequest): number | undefined {
  const measured = measures.flatMap((measure) =>
    'data' in measure ? measure.data.sequenceLength : 'sequenceLength' in measure ? measure.sequenceLength : [],
  )
  return calibration?.sequenceLength ?? measured[0]
}

const perplexitiesOf = ({ measures }: RunRequest) => measures.filter((measure) => measure.kind === 'perplexity')

/** Names the settings of a run that have no flag. */
function missingOf(request: RunRequest, length = 0): string[] {
  const { calibration, repair, recover, measures } = request
  const others = measures.filter((measure) => !isUsual(measure, perplexitiesOf(request)[0], length)).map(({ kind }) => kind)
  return [
    ...(calibration?.split?.seed ? ['the seed of the split'] : []),
    ...(repair && repair.calibration.sequenceLength !== length ? ['the window length of the repair'] : []),
    ...(recover && recover.text.sequenceLength !== recoveryLength(length) ? ['the window length of the recovery'] : []),
    ...(recover?.rate === undefined ? [] : [`the learning rate ${recover.rate}`]),
    ...[...new Set(others)].map((kind) => `the settings of ${kind}`),
  ]
}

/** Whether a measure has the settings that its flag gives it, in a command with this first perplexity and this window length. */
function isUsual(measure: MeasureRequest, first: ReturnType<typeof perplexitiesOf>[number] | undefined, length = 0): boolean {
  if (measure.kind === 'tasks') return true
  if (measure.kind === 'perplexity') return measure.data.sequenceLength === length && measure.data.windows === first?.data.windows
  if (measure.kind === 'inference') return measure.sequenceLength === length && measure.repeats === referenceRepeats
  if (measure.kind === 'answers') return isDeepStrictEqual(measure, paperAnswers(length))
  if (!first) return false
  const { data, name } = first
  const usual = measure.kind === 'repetition' ? usualRepetition(data, name, length) : usualLongContext(data, name, length)
  return isDeepStrictEqual(measure, usual)
}

const sourceOf = ({ source, mix }: DataRequest): string => (mix ? mix.map((part) => `${part.source}:${part.share}`).join(',') : source)

/** The flags of a text. A part of the user's own text has no flag, except as `--for`; repair and recovery then follow it. */
function dataFlags(text: string, samples: string, data: DataRequest): string[] {
  const { windows, mix } = data
  const follows = text !== 'for' && mix?.some(({ split }) => split)
  return [...(follows ? [] : [flag(text, sourceOf(data))]), ...(windows === undefined || samples === '' ? [] : [flag(samples, windows)])]
}

/** A flag with its value, quoted for a shell if needed. */
function flag(name: string, value: string | number): string {
  const text = String(value)
  return /^[\w./:,=@+[\]-]+$/.test(text) && !/[[\]]/.test(text) ? `--${name}=${text}` : `'--${name}=${text.replaceAll("'", "'\\''")}'`
}
