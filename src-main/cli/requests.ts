import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { denseMethod } from '#contract/experiments.ts'
import { defaultRepairWindows, repairKind } from '#contract/repair.ts'
import type { Amount, DataRequest, MeasureRequest, RunRequest } from '#contract/run-request.ts'
import type { AblationRequest } from '#engine/ablation-run.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { paperLength, paperPrompts } from '#engine/evaluation/generation/answer.ts'
import { referenceInference } from '#engine/evaluation/inference.ts'
import { taskIds } from '#engine/evaluation/tasks/index.ts'
import { formats } from '#engine/export/index.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { findMethod, methods } from '#engine/pruning/registry.ts'
import { backendFlag, bytesFlag, type Flags, integerFlag, listFlag, numberFlag } from './flags.ts'
import { isSampleModel, sampleText } from './sample.ts'
import { existing, textFlag } from './text-flag.ts'

/** The reference's window length. */
const referenceLength = 2048

/** What a command line asks for on one model. */
export interface Commanded {
  readonly requests: RunRequest[]
  /** Amounts of a sweep over all sizes: those that cannot be reached are left out with a word. */
  readonly sweep: boolean
}

/** Checks all that can be checked without opening the model. Throws `usage` with a sentence that helps. */
export function checkFlags(flags: Flags): void {
  const fail = (message: string): never => {
    throw new EspalierError('usage', `${message} See espalier --help.`)
  }
  if (!flags.model) fail('--model is missing: give a folder, a hub name such as org/name, or "sample" for the bundled model.')
  const amounts = [flags.num_prune, flags.sparsity, flags.sparsity_rate].filter((value) => value !== undefined)
  const pruning = listFlag(flags.pruning_method)
  if (amounts.length > 1) fail('--num_prune, --sparsity and --sparsity_rate say the same thing in different ways; give one of them.')
  for (const method of pruning) findMethod(method)
  if (flags.ablation !== undefined) {
    if (flags.ablation !== 'all') findAblation(flags.ablation)
    if (pruning.some((method) => method !== '2ssp'))
      fail(`--ablation studies 2ssp; it cannot go with --pruning_method=${pruning.join(',')}.`)
    if (flags.save) fail('--save needs one plan; an ablation makes many.')
  } else {
    if (pruning.length === 0 && !flags.dense)
      fail(`Nothing to do: give --dense, or --pruning_method with one of ${Object.keys(methods).join(', ')}.`)
    if (pruning.length > 0 && amounts.length === 0)
      fail(`--pruning_method=${pruning.join(',')} needs an amount: --sparsity=0.5 or --num_prune=8 (-1 for all, -2 for 25, 37.5 and 50 %).`)
  }
  if (pruning.length === 0 && amounts.length > 0 && !flags.ablation) fail('An amount was given but no --pruning_method.')
  if (pruning.length === 0 && flags.save) fail('--save needs a --pruning_method.')
  if (flags.alpha !== undefined && !pruning.includes('2ssp') && !flags.ablation)
    fail('--alpha belongs to 2ssp; give --pruning_method=2ssp.')
  if (flags.repair !== undefined && flags.repair !== 'none' && !repairKind.safeParse(flags.repair).success)
    fail(`--repair is "${flags.repair}"; it must be none, ${repairKind.options.join(' or ')}.`)
  if (
    (flags.repair_data ?? flags.repair_samples) !== undefined &&
    (flags.repair ?? 'none') === 'none' &&
    !pruning.some((method) => findMethod(method).repair)
  )
    fail('--repair_data and --repair_samples belong to a repair; give --repair=one-pass or --repair=in-order too.')
  if (flags.format !== undefined && !flags.save) fail('--format says how --save writes; give --save FOLDER too.')
  if (flags.format !== undefined && !Object.hasOwn(formats, flags.format))
    fail(`--format is "${flags.format}"; known are ${Object.keys(formats).join(', ')}.`)
  if (flags.logging !== undefined && !/^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$/.test(flags.logging))
    fail(`--logging is "${flags.logging}"; it must be DEBUG, INFO, WARNING, ERROR or CRITICAL.`)
  const unknown = listFlag(flags.tasks === undefined ? undefined : [flags.tasks]).filter((task) => !taskIds.includes(task as never))
  if (unknown.length > 0) fail(`--tasks names "${unknown[0]}"; known are ${taskIds.join(', ')}.`)
  if (flags.alpha !== undefined) numberFlag('alpha', flags.alpha, 0.01, 100)
  for (const text of listFlag(flags.seed)) integerFlag('seed', text, 0)
  for (const text of listFlag(flags.num_prune)) integerFlag('num_prune', text, -2)
  for (const text of [...listFlag(flags.sparsity), ...listFlag(flags.sparsity_rate)]) sparsityFlag(text)
  if (flags.memory !== undefined) bytesFlag('memory', flags.memory)
  backendFlag(flags.backend)
}

/** A share of the stack, or -1 and -2 as the reference has them. */
function sparsityFlag(text: string): number {
  return text === '-1' || text === '-2' ? Number(text) : numberFlag('sparsity', text, 0, 1)
}

/** Amounts of `--num_prune`, `--sparsity` or `--sparsity_rate` for a model of `count` blocks. */
function amountsOf(flags: Flags, count: number): { amounts: Amount[]; sweep: boolean } {
  const shares = [0.25, 0.375, 0.5]
  const whole = listFlag(flags.num_prune).map((text) => integerFlag('num_prune', text, -2, count))
  const rates = [...listFlag(flags.sparsity), ...listFlag(flags.sparsity_rate)].map(sparsityFlag)
  if (whole.includes(-1) || rates.includes(-1))
    return { amounts: Array.from({ length: Math.max(1, count - 2) }, (_, i) => ({ blocks: i + 1 })), sweep: true }
  const amounts: Amount[] = [
    ...whole.flatMap((blocks) => (blocks === -2 ? shares.map((share) => ({ blocks: Math.ceil(share * count) })) : [{ blocks }])),
    ...rates.flatMap((sparsity) => (sparsity === -2 ? shares.map((share) => ({ sparsity: share })) : [{ sparsity }])),
  ]
  // On a small model two shares can come to the same number of blocks.
  const distinct = new Map(amounts.map((amount) => [JSON.stringify(amount), amount]))
  return { amounts: [...distinct.values()], sweep: false }
}

/** Tokens per window: the reference's, or what the model was trained for when that is less. */
function sequenceLengthOf(flags: Flags, spec: DecoderSpec): number {
  if (flags.sequence_length === undefined) return Math.min(referenceLength, spec.contextLength)
  return integerFlag('sequence_length', flags.sequence_length, 2, spec.contextLength)
}

/** Where a run computes and where its data lies. */
function machineOf(flags: Flags): Pick<RunRequest, 'backend' | 'memoryBytes' | 'localFolder'> {
  return {
    backend: backendFlag(flags.backend),
    ...(flags.memory === undefined ? {} : { memoryBytes: bytesFlag('memory', flags.memory) }),
    ...(flags.local_datasets ? { localFolder: resolve('data') } : {}),
  }
}

/** Turns checked flags into requests: methods x amounts x seeds, after the dense baseline when it is wanted. */
export function commandedRuns(flags: Flags, model: string, spec: DecoderSpec): Commanded {
  const { amounts, sweep } = amountsOf(flags, spec.blocks.length)
  const pruning = listFlag(flags.pruning_method)
  const seeds = flags.seed ? listFlag(flags.seed).map((text) => integerFlag('seed', text, 0)) : [0]
  const sequenceLength = sequenceLengthOf(flags, spec)
  const shared = {
    model,
    measures: measuresOf(flags, model, sequenceLength),
    ...machineOf(flags),
  }
  const several = pruning.length * amounts.length * seeds.length > 1
  if (several && flags.save) throw new EspalierError('usage', '--save needs one plan; give one method, one amount and one seed.')
  const dense: RunRequest[] =
    flags.dense || flags.main_table_results || several
      ? [{ ...shared, method: denseMethod, amount: { sparsity: 0 }, options: {}, seed: 0 }]
      : []
  const calibration = calibrationOf(flags, model, sequenceLength)
  const pruned = pruning.flatMap((method) =>
    amounts.flatMap((amount) =>
      seeds.map(
        (seed): RunRequest => ({
          ...shared,
          method,
          amount,
          seed,
          options: optionsOf(flags, method),
          calibration,
          ...repairOf(flags, method, model, sequenceLength),
          ...(flags.save ? { save: { folder: resolve(flags.save), format: flags.format ?? 'espalier' } } : {}),
        }),
      ),
    ),
  )
  return { requests: [...dense, ...pruned], sweep }
}

/** The request of one ablation; options come from `--option`, and its perplexity is taken on the first text to be measured. */
export function ablationRequest(flags: Flags, model: string, spec: DecoderSpec, ablation: string): AblationRequest {
  const sequenceLength = sequenceLengthOf(flags, spec)
  const [first] = measuresOf(flags, model, sequenceLength)
  if (first?.kind !== 'perplexity')
    throw new EspalierError('usage', '--ablation measures perplexity; give --eval_data, or nothing for the usual text.')
  return {
    model,
    ablation,
    options: optionsOf(flags, '2ssp'),
    seed: 0,
    calibration: calibrationOf(flags, model, sequenceLength),
    evaluation: { name: first.name, data: first.data },
    ...machineOf(flags),
  }
}

/** `--option name=value` and the flags that stand for an option. Values are numbers, true, false or text. */
export function optionsOf(flags: Flags, method: string): Record<string, unknown> {
  const options: Record<string, unknown> = {}
  for (const text of flags.option ?? []) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(text) ?? []
    if (name === undefined || value === undefined)
      throw new EspalierError('usage', `--option is "${text}"; it must be name=value. See espalier methods.`)
    options[name] =
      value === 'true' ? true : value === 'false' ? false : value !== '' && Number.isFinite(Number(value)) ? Number(value) : value
  }
  if (flags.alpha !== undefined && method === '2ssp') options.alpha = numberFlag('alpha', flags.alpha, 0.01, 100)
  return options
}

function calibrationOf(flags: Flags, model: string, sequenceLength: number): DataRequest {
  const samples =
    flags.calibration_samples === undefined ? {} : { windows: integerFlag('calibration_samples', flags.calibration_samples, 1) }
  return {
    ...(flags.calibration_data
      ? textFlag('calibration_data', flags.calibration_data)
      : { source: defaultData(flags, model, 'calibration') }),
    sequenceLength,
    ...samples,
  }
}

/** The repair that is asked for, or that the method is meant for; without a text of its own it is fitted on the mixed one, or the sample model's. */
function repairOf(flags: Flags, method: string, model: string, sequenceLength: number): Pick<RunRequest, 'repair'> {
  const kind = flags.repair === undefined ? findMethod(method).repair : repairKind.safeParse(flags.repair).data
  if (!kind) return {}
  const text = flags.repair_data ? textFlag('repair_data', flags.repair_data) : { source: defaultRepairText(model) }
  const windows = flags.repair_samples === undefined ? defaultRepairWindows : integerFlag('repair_samples', flags.repair_samples, 2)
  return { repair: { kind, calibration: { ...text, sequenceLength, windows } } }
}

/** The bundled model knows no other text than its own. */
const defaultRepairText = (model: string): string => (isSampleModel(model) ? sampleText('calibration') : 'mixed')

/** The bundled model comes with texts of its own; the reference's data sets serve all others, and it too when they lie in ./data. */
function defaultData(flags: Flags, model: string, use: 'calibration' | 'test'): string {
  const named = use === 'calibration' ? 'c4-train' : 'wikitext2'
  const local = flags.local_datasets && existsSync(join('data', use === 'calibration' ? 'c4_train' : 'wikitext-2'))
  return isSampleModel(model) && !local ? sampleText(use) : named
}

function measuresOf(flags: Flags, model: string, sequenceLength: number): MeasureRequest[] {
  const data = (source: string): DataRequest => ({ source, sequenceLength })
  const own = (flags.eval_data ?? []).map(
    (path): MeasureRequest => ({
      kind: 'perplexity',
      data: data(existing('eval_data', path)),
      name: path.split(/[\\/]/).filter(Boolean).at(-1) ?? path,
    }),
  )
  const bundled = defaultData(flags, model, 'test')
  const wikitext: MeasureRequest = { kind: 'perplexity', data: data(bundled), name: bundled === 'wikitext2' ? bundled : 'sample test' }
  const table: MeasureRequest[] =
    bundled === 'wikitext2'
      ? [wikitext, ...['c4-val', 'fineweb-edu'].map((name): MeasureRequest => ({ kind: 'perplexity', data: data(name), name }))]
      : [wikitext]
  const perplexity = own.length > 0 ? own : flags.main_table_results ? table : flags.evaluate_perplexity || flags.ablation ? [wikitext] : []
  const tasks = flags.tasks === undefined ? taskIds : listFlag([flags.tasks])
  return [
    ...perplexity,
    ...(flags.evaluate_downstream || flags.tasks ? [tasksMeasure(flags, model, tasks)] : []),
    ...(flags.evaluate_inference ? [{ kind: 'inference' as const, sequenceLength, repeats: referenceInference.repeats }] : []),
    ...(flags.evaluate_qualitative
      ? [{ kind: 'answers' as const, prompts: [...paperPrompts], maxLength: Math.min(paperLength, sequenceLength) }]
      : []),
  ]
}

function tasksMeasure(flags: Flags, model: string, tasks: readonly string[]): MeasureRequest {
  const local = flags.local_datasets && existsSync(join('data', 'tasks')) ? resolve('data', 'tasks') : undefined
  const folder = flags.task_folder
    ? existing('task_folder', flags.task_folder)
    : (local ?? (isSampleModel(model) ? sampleText('questions') : undefined))
  return {
    kind: 'tasks',
    tasks: [...tasks],
    ...(folder === undefined ? {} : { folder }),
    ...(flags.task_limit === undefined ? {} : { limit: integerFlag('task_limit', flags.task_limit, 1) }),
  }
}
