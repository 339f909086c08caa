import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { at } from '#contract/at.ts'
import type { DataRequest, TextSplit } from '#contract/data/data-request.ts'
import { sourceName } from '#contract/data/source-name.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Grid } from '#contract/experiments/experiments.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { paperAnswers, referenceRepeats, usualLongContext, usualRepetition } from '#contract/protocol.ts'
import { defaultRecoveryData } from '#contract/pruning/recovery.ts'
import { defaultRepairData, defaultRepairWindows } from '#contract/pruning/repair.ts'
import { mixedBudget } from '#contract/runs/amount-text.ts'
import type { Amount, MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { ablationTitles, bundledTitles, denseMethod, sampleTextTitles, taskTitles } from '#contract/titles.ts'
import { fail } from './flags/check-flags.ts'
import { existing, expertShare, isExpertShare, setsRows, textFlag } from './flags/flag-values.ts'
import type { Flags } from './flags/flags.ts'
import { isSampleModel, sampleText } from './locate-model.ts'

/** The reference's window length. */
const referenceLength = 2048

/** A command line's runs on one model: a single request, or a grid. If `sweep` is set, unreachable amounts are skipped with a notice. */
export type Commanded = { request: Omit<RunRequest, 'model'>; saves: boolean } | { grid: Grid; sweep: boolean }

/**
 * Returns the amounts that `--num_prune`, `--sparsity`, `--sparsity_rate`, `--expert_share` or `--fit` set for a model of `count` blocks. -1 means every
 * number of blocks from 1 to `count` - 2, and -2 for 25, 37.5 and 50 %.
 */
function amountsOf(
  { num_prune: blockCounts, sparsity, sparsity_rate, expert_share, option, pruning_method, fit, format, gguf_type }: Flags,
  count: number,
): { amounts: Amount[]; sweep: boolean } {
  const shares = [0.25, 0.375, 0.5]
  const rates = [...sparsity, ...sparsity_rate]
  const tooMany = blockCounts.find((blocks) => blocks > count)
  if (tooMany !== undefined)
    throw new EspalierError('usage', `--num_prune is ${tooMany}, but the model has ${count} blocks. Choose ${count} or less.`)
  if (blockCounts.includes(-1) || rates.includes(-1))
    return { amounts: Array.from({ length: Math.max(1, count - 2) }, (_, i) => ({ blocks: i + 1 })), sweep: true }
  const amounts: Amount[] = [
    ...blockCounts.flatMap((blocks) => (blocks === -2 ? shares.map((share) => ({ blocks: Math.ceil(share * count) })) : [{ blocks }])),
    ...rates.flatMap((sparsity) => (sparsity === -2 ? shares.map((share) => ({ sparsity: share })) : [{ sparsity }])),
  ]
  const given = option.flatMap(([name, value]) => (isExpertShare(name, pruning_method) ? [expertShare(String(value), 'option share')] : []))
  amounts.push(...[...expert_share, ...given].map((experts) => ({ experts })))
  // Options of the method say how much stays.
  if (option.some(([name]) => setsRows(name, pruning_method))) amounts.push({ sparsity: 0 })
  const [kind = 'gguf'] = format
  const [type] = kind === 'gguf' ? gguf_type : []
  amounts.push(...fit.map((one) => ('bytes' in one ? { ...(type ? { type } : {}), ...one, format: kind } : one)))
  // On a small model, two shares can be the same number of blocks.
  const distinct = new Map(amounts.map((amount) => [JSON.stringify(amount), amount]))
  return { amounts: [...distinct.values()], sweep: false }
}

/** Returns the tokens per window: the requested number, or else the smaller of the reference's length and the model's context. */
function sequenceLengthOf({ sequence_length }: Flags, contextLength: number): number {
  return sequence_length ?? Math.min(referenceLength, contextLength)
}

/** Returns the fields that say how windows begin, where and with which precision a run is computed, and where its data is. */
function machineOf({
  backend = 'auto',
  begin_token: beginToken = 'auto',
  precision,
  memory,
  local_datasets,
}: Flags): Pick<RunRequest, 'beginToken' | 'backend' | 'precision' | 'memoryBytes' | 'localFolder'> {
  return {
    beginToken,
    backend,
    ...(precision === undefined ? {} : { precision }),
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    ...(local_datasets ? { localFolder: resolve('data') } : {}),
  }
}

/** Turns checked flags into a request, or into a grid if there are several runs or the dense model is requested too. */
export function commandedRuns(flags: Flags, { id, path, description }: ModelEntry): Commanded {
  const { blocks, contextLength } = description.shape
  const { amounts, sweep } = amountsOf(flags, blocks)
  const seeds = flags.seed.length > 0 ? [...flags.seed] : [0]
  const sequenceLength = sequenceLengthOf(flags, contextLength)
  const shared = {
    calibration: calibrationOf(flags, path, sequenceLength),
    measures: measuresOf(flags, path, sequenceLength),
    ...machineOf(flags),
  }
  const weights = flags.weights as NonNullable<Grid['weights']>
  const [type = 'computed'] = weights
  const stored = type === 'computed' ? {} : { weights: type }
  const methods = methodsOf(flags)
  checkRepair(flags)
  const saves = flags.save !== undefined
  const [first] = methods
  if (!first && weights.length < 2)
    return { request: { ...shared, ...denseRequest, ...stored, ...(stored.weights ? {} : { calibration: undefined }) }, saves }
  const runs = methods.length * amounts.length * seeds.length
  const isOne = (flags.ablation ? methods.length : runs) === 1 && weights.length < 2 && !flags.dense && !flags.main_table_results
  if (isOne && first) {
    const [amount = { sparsity: 0 }] = amounts
    const treated = { ...repairOf(flags, path, sequenceLength), ...recoverOf(flags, path, sequenceLength) }
    const mixed = mixedBudget(amount)
    return {
      request: {
        ...shared,
        ...firstStepOf(flags),
        ...treated,
        ...(mixed ? { weights: mixed } : stored),
        ...first,
        amount,
        seed: at(seeds, 0),
      },
      saves,
    }
  }
  if (saves && runs * Math.max(1, weights.length) > 1)
    throw new EspalierError('usage', '--save needs one plan; give one method, one amount, one seed and one type of weights.')
  const treated = { ...repairsOf(flags, path, sequenceLength), ...recoveriesOf(flags, path, sequenceLength) }
  const grid = {
    ...shared,
    ...firstStepOf(flags),
    ...treated,
    models: [id],
    methods,
    amounts,
    seeds,
    ...(weights.length > 0 ? { weights } : {}),
  }
  return { grid, sweep }
}

const firstStepOf = ({ vocabulary }: Flags): Pick<RunRequest, 'vocabulary'> => (vocabulary ? { vocabulary } : {})

const denseRequest = { method: denseMethod, amount: { sparsity: 0 }, options: {}, seed: 0 }

function methodsOf(flags: Flags): Grid['methods'] {
  const trimmed = flags.dense && flags.vocabulary ? [{ method: 'vocabulary', options: { ...flags.vocabulary } }] : []
  if (flags.ablation === undefined)
    return [...flags.pruning_method.map((method) => ({ method, options: optionsOf(flags, method) })), ...trimmed]
  const names = flags.ablation === 'all' ? Object.keys(ablationTitles) : [flags.ablation]
  return names.map((method) => ({ method, options: optionsOf(flags, method) }))
}

/** `--option name=value`, and flags that are shorthand for an option. */
function optionsOf(flags: Flags, method: string): Record<string, unknown> {
  const alpha = flags.alpha !== undefined && method === '2ssp' ? { alpha: flags.alpha } : {}
  const own = flags.option.filter(([name]) => !isExpertShare(name, [method]))
  return { ...Object.fromEntries(own), ...alpha }
}

function calibrationOf(flags: Flags, model: string, sequenceLength: number): DataRequest {
  const samples = flags.calibration_samples === undefined ? {} : { windows: flags.calibration_samples }
  if (flags.for !== undefined) return { ...ownText(flags.for, 'choosing'), sequenceLength, ...samples }
  return {
    ...(flags.calibration_data
      ? textFlag('calibration_data', flags.calibration_data)
      : { source: defaultData(flags, model, 'calibration') }),
    sequenceLength,
    ...samples,
  }
}

/** One part of the text of `--for`. */
const ownText = (text: string, part: TextSplit['part']): Pick<DataRequest, 'source' | 'split'> => ({
  source: existing('for', text),
  split: { part, seed: 0 },
})

function checkRepair({ repair = 'none', repair_data, repair_samples }: Flags): void {
  if ((repair_data ?? repair_samples) !== undefined && repair === 'none')
    fail('--repair_data and --repair_samples need a repair. Give --repair=one-pass or --repair=in-order too.')
}

function repairOf(flags: Flags, model: string, sequenceLength: number): Pick<RunRequest, 'repair'> {
  const { repair: kind = 'none' } = flags
  return kind !== 'none' ? { repair: { kind, calibration: repairData(flags, model, sequenceLength) } } : {}
}

function repairsOf(flags: Flags, model: string, sequenceLength: number): Pick<Grid, 'repairs' | 'repairData'> {
  const repairs = flags.repair === undefined ? {} : { repairs: [flags.repair] }
  return { ...repairs, repairData: repairData(flags, model, sequenceLength) }
}

/** The text a repair is fitted on: as requested, else 3/4 calibration text and 1/4 bundled mixed text. */
function repairData(flags: Flags, model: string, sequenceLength: number): DataRequest {
  const windows = flags.repair_samples ?? defaultRepairWindows
  if (flags.repair_data) return { ...textFlag('repair_data', flags.repair_data), sequenceLength, windows }
  return { ...defaultRepairData(calibrationOf(flags, model, sequenceLength)), windows }
}

/** The requested recovery. */
function recoverOf(flags: Flags, model: string, sequenceLength: number): Pick<RunRequest, 'recover'> {
  const { recover: amount = 'none', recover_weights: trains } = flags
  return amount === 'none' ? {} : { recover: { amount, text: recoveryData(flags, model, sequenceLength), ...(trains ? { trains } : {}) } }
}

function recoveriesOf(flags: Flags, model: string, sequenceLength: number): Pick<Grid, 'recoveries' | 'recoveryData' | 'recoveryTrains'> {
  const { recover: amount = 'none', recover_weights: trains } = flags
  if (amount === 'none') return {}
  return { recoveries: [amount], recoveryData: recoveryData(flags, model, sequenceLength), ...(trains ? { recoveryTrains: trains } : {}) }
}

/** The text a recovery trains on: as requested, else half calibration text and half bundled mixed text. */
function recoveryData(flags: Flags, model: string, sequenceLength: number): DataRequest {
  const usual = defaultRecoveryData(calibrationOf(flags, model, sequenceLength))
  return flags.recover_data ? { ...textFlag('recover_data', flags.recover_data), sequenceLength: usual.sequenceLength } : usual
}

/**
 * Returns the text to use if no flag names one. It is the reference's data set, except that the bundled model uses its own text unless
 * `--local_datasets` is given and ./data has the data set.
 */
function defaultData(flags: Flags, model: string, use: 'calibration' | 'test'): string {
  const named = use === 'calibration' ? 'c4-train' : 'wikitext2'
  const local = flags.local_datasets && existsSync(join('data', use === 'calibration' ? 'c4_train' : 'wikitext-2'))
  return isSampleModel(model) && !local ? sampleText(use) : named
}

type PerplexityRequest = Extract<MeasureRequest, { kind: 'perplexity' }>

function measuresOf(flags: Flags, model: string, sequenceLength: number): MeasureRequest[] {
  const most = flags.eval_samples === undefined ? {} : { windows: flags.eval_samples }
  const data = (source: string): DataRequest => ({ source, sequenceLength, ...most })
  const own = flags.eval_data.map(
    (path): PerplexityRequest => ({
      kind: 'perplexity',
      data: data(existing('eval_data', path)),
      name: sourceName(path),
    }),
  )
  const source = defaultData(flags, model, 'test')
  const wikitext: PerplexityRequest = {
    kind: 'perplexity',
    data: data(source),
    name: source === 'wikitext2' ? sourceName(source) : sampleTextTitles.test,
  }
  const deciding = flags.for === undefined ? [] : [decidingMeasure(flags.for, sequenceLength, most)]
  const general = isSampleModel(model) ? wikitext : { ...wikitext, data: data('prose'), name: bundledTitles.prose }
  const [first = wikitext] = [...deciding, ...own]
  const table: MeasureRequest[] =
    source === 'wikitext2'
      ? [wikitext, ...['c4-val', 'fineweb-edu'].map((id): MeasureRequest => ({ kind: 'perplexity', data: data(id), name: sourceName(id) }))]
      : [wikitext]
  const usual = flags.main_table_results
    ? table
    : deciding.length > 0
      ? [general]
      : flags.evaluate_perplexity || flags.ablation
        ? [wikitext]
        : []
  const perplexity = [...deciding, ...(own.length > 0 ? own : usual)]
  const tasks = flags.tasks.length === 0 ? Object.keys(taskTitles) : flags.tasks
  return [
    ...perplexity,
    ...(flags.evaluate_downstream || flags.tasks.length > 0 ? [tasksMeasure(flags, model, tasks)] : []),
    ...(flags.evaluate_inference ? [{ kind: 'inference' as const, sequenceLength, repeats: referenceRepeats }] : []),
    ...(flags.evaluate_repetition ? [usualRepetition(first.data, first.name, sequenceLength)] : []),
    ...(flags.evaluate_long_context ? [usualLongContext(first.data, first.name, flags.sequence_length)] : []),
    ...(flags.evaluate_qualitative ? [paperAnswers(sequenceLength)] : []),
  ]
}

/** Perplexity on the part of the user's own text that decides. */
function decidingMeasure(text: string, sequenceLength: number, most: Pick<DataRequest, 'windows'>): PerplexityRequest {
  const own = ownText(text, 'deciding')
  return { kind: 'perplexity', data: { ...own, sequenceLength, ...most }, name: sourceName(own.source) }
}

/** Default number of tokens that a divergence is computed on. */
const divergenceTokens = 10_000

/** The text for the comparison with the dense model: the part of `--for` that decides, the first of `--eval_data`, else the default perplexity text. */
export function divergenceData(flags: Flags, { path, description }: ModelEntry): DataRequest {
  const sequenceLength = sequenceLengthOf(flags, description.shape.contextLength)
  const [own] = flags.eval_data
  const tokens = flags.divergence_tokens ?? divergenceTokens
  const text =
    flags.for !== undefined
      ? ownText(flags.for, 'deciding')
      : { source: own === undefined ? defaultData(flags, path, 'test') : existing('eval_data', own) }
  return { ...text, sequenceLength, windows: Math.max(1, Math.round(tokens / sequenceLength)) }
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
    ...(flags.task_limit === undefined ? {} : { limit: flags.task_limit }),
    ...(flags.apply_chat_template ? { chat: true } : {}),
  }
}
