import type { DataRequest } from '#contract/data/data-request.ts'
import type { RecoveryAmount } from '#contract/pruning/recovery.ts'
import { isPlain, speedText } from '#contract/runs/amount-text.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod, isAblation } from '#contract/titles.ts'

/** The command line that repeats a run; undefined for runs that inspect others. */
export function commandOf(model: string, request: RunRequest): string | undefined {
  if (request.inspect) return undefined
  const { method, amount, seed, options, calibration, repair, recover, measures, backend, precision, memoryBytes, localFolder } = request
  const length = calibration?.sequenceLength ?? lengthOf(request)
  const tasks = measures.flatMap((measure) => (measure.kind === 'tasks' ? [measure] : []))
  const words = [
    'espalier',
    flag('model', model),
    ...workOf(method, amount),
    ...Object.entries(options).map(([name, value]) => flag('option', `${name}=${Array.isArray(value) ? `[${value.join(',')}]` : value}`)),
    ...(seed === 0 ? [] : [flag('seed', seed)]),
    ...(calibration ? dataFlags('calibration_data', 'calibration_samples', calibration) : []),
    ...(repair ? [flag('repair', repair.kind), ...dataFlags('repair_data', 'repair_samples', repair.calibration)] : unrepaired(method)),
    ...(recover ? [flag('recover', recoverText(recover.amount)), flag('recover_data', sourceOf(recover.text))] : []),
    ...(recover?.trains ? [flag('recover_weights', recover.trains)] : []),
    ...(length === undefined ? [] : [flag('sequence_length', length)]),
    ...measures.flatMap((measure) => (measure.kind === 'perplexity' ? [flag('eval_data', measure.data.source)] : [])),
    ...tasks.flatMap(({ tasks: names, folder, limit, chat }) => [
      flag('tasks', names.join(',')),
      ...(folder ? [flag('task_folder', folder)] : []),
      ...(limit ? [flag('task_limit', limit)] : []),
      ...(chat ? ['--apply_chat_template'] : []),
    ]),
    ...(measures.some(({ kind }) => kind === 'inference') ? ['--evaluate_inference'] : []),
    ...(measures.some(({ kind }) => kind === 'repetition') ? ['--evaluate_repetition'] : []),
    ...(measures.some(({ kind }) => kind === 'long context') ? ['--evaluate_long_context'] : []),
    ...(measures.some(({ kind }) => kind === 'answers') ? ['--evaluate_qualitative'] : []),
    ...(request.weights ? [flag('weights', request.weights)] : []),
    ...(backend === 'auto' ? [] : [flag('backend', backend)]),
    ...(precision ? [flag('precision', precision)] : []),
    ...(memoryBytes === undefined ? [] : [flag('memory', memoryBytes)]),
    ...(localFolder ? ['--local_datasets'] : []),
  ]
  return words.join(' ')
}

const recoverText = (amount: RecoveryAmount): string => ('tokens' in amount ? `${amount.tokens}` : `${amount.minutes}min`)

/** Some methods repair by default. */
const unrepaired = (method: string): string[] => (method === denseMethod || isAblation(method) ? [] : [flag('repair', 'none')])

function workOf(method: string, amount: RunRequest['amount']): string[] {
  if (method === denseMethod) return ['--dense']
  if (isAblation(method)) return [flag('ablation', method)]
  if ('bytes' in amount) {
    const { bytes, format, type } = amount
    return [flag('pruning_method', method), flag('fit', `${bytes}B`), flag('format', format), ...(type ? [flag('gguf_type', type)] : [])]
  }
  if (!isPlain(amount)) return [flag('pruning_method', method), flag('fit', speedText(amount))]
  return [flag('pruning_method', method), 'sparsity' in amount ? flag('sparsity', amount.sparsity) : flag('num_prune', amount.blocks)]
}

function lengthOf({ measures }: RunRequest): number | undefined {
  return measures.flatMap((measure) => (measure.kind === 'perplexity' ? [measure.data.sequenceLength] : []))[0]
}

const sourceOf = ({ source, mix }: DataRequest): string => (mix ? mix.map((part) => `${part.source}:${part.share}`).join(',') : source)

function dataFlags(text: string, samples: string, data: DataRequest): string[] {
  const { windows } = data
  return [flag(text, sourceOf(data)), ...(windows === undefined ? [] : [flag(samples, windows)])]
}

/** A flag with its value, quoted for a shell if needed. */
function flag(name: string, value: string | number): string {
  const text = String(value)
  return /^[\w./:,=@+[\]-]+$/.test(text) && !/[[\]]/.test(text) ? `--${name}=${text}` : `'--${name}=${text.replaceAll("'", "'\\''")}'`
}
