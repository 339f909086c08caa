import type { Grid } from '#contract/experiments/experiments.ts'
import { defaultRecoveryData, recoveryTitle } from '#contract/pruning/recovery.ts'
import { defaultRepairData, repairTitles } from '#contract/pruning/repair.ts'
import { amountText, keptRowsText, mixedBudget, statesSparsity } from '#contract/runs/amount-text.ts'
import { optionText } from '#contract/runs/parameter-titles.ts'
import type { Amount, RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod, isAblation, isInspection, setsRows, titleOfMethod, weightText } from '#contract/titles.ts'

/** A planned run: its library model, and the request without the model's path. */
export interface PlannedRun {
  model: string
  request: Omit<RunRequest, 'model'>
}

/** Returns a grid's runs with its first seed: for each model its dense baseline first, and siblings last. */
export function combinationsOf(grid: Grid): PlannedRun[] {
  const { calibration, vocabulary, measures, beginToken, backend, precision, memoryBytes, localFolder } = grid
  const shared = {
    seed: grid.seeds[0] ?? 0,
    measures,
    backend,
    ...(beginToken === undefined ? {} : { beginToken }),
    ...(precision === undefined ? {} : { precision }),
    ...(localFolder === undefined ? {} : { localFolder }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  }
  const usualTypes = (grid.weights ?? ['computed']).map((type) => (type === 'computed' ? {} : { weights: type }))
  const typesOf = (amount: Amount) => {
    const type = mixedBudget(amount)
    return type ? [{ weights: type }] : usualTypes
  }
  const requests = grid.methods.flatMap(({ method, options }): PlannedRun['request'][] => {
    const pruned = { ...shared, method, options, ...(calibration ? { calibration } : {}) }
    // An ablation sets its own amounts.
    if (isAblation(method)) return [{ ...pruned, amount: { sparsity: 0 } }]
    if (setsRows(method, options)) return usualTypes.map((type) => ({ ...pruned, amount: { sparsity: 0 }, ...type }))
    const first = vocabulary && method !== 'vocabulary' ? { vocabulary } : {}
    return grid.amounts.flatMap((amount) =>
      treatmentsOf(grid).flatMap((treatment) => typesOf(amount).map((type) => ({ ...pruned, ...first, amount, ...treatment, ...type }))),
    )
  })
  const dense = { ...shared, method: denseMethod, amount: { sparsity: 0 }, options: {} }
  const mixed = grid.amounts.flatMap((amount) => mixedBudget(amount) ?? [])
  const types = new Set([...(grid.weights ?? []).filter((type) => type !== 'computed'), ...mixed, ...(grid.rivals ?? [])])
  const rivals = [...types].map((type) => ({ ...dense, weights: type, ...(calibration ? { calibration } : {}) }))
  const own = grid.models.flatMap((model) => [dense, ...rivals, ...requests].map((request) => ({ model, request })))
  return [...own, ...(grid.siblings ?? []).flatMap((model) => [dense, ...rivals].map((request) => ({ model, request })))]
}

/** Combines the grid's repairs with its recoveries. */
function treatmentsOf(grid: Grid): Pick<RunRequest, 'repair' | 'recover'>[] {
  return repairsOf(grid).flatMap((repair) => recoveriesOf(grid).map((recover) => ({ ...repair, ...recover })))
}

function recoveriesOf({ recoveries = ['none'], recoveryData, recoveryTrains: trains, calibration }: Grid): Pick<RunRequest, 'recover'>[] {
  const text = recoveryData ?? (calibration && defaultRecoveryData(calibration))
  return recoveries.map((amount) => (amount === 'none' || !text ? {} : { recover: { amount, text, ...(trains ? { trains } : {}) } }))
}

function repairsOf({ repairs = ['none'], repairData, calibration }: Grid): Pick<RunRequest, 'repair'>[] {
  const text = repairData ?? (calibration && defaultRepairData(calibration))
  return repairs.map((kind) => (kind === 'none' || !text ? {} : { repair: { kind, calibration: text } }))
}

/** Returns the run once for each seed, or with the first one only if seeds do not affect it. */
export function overSeeds({ model, request }: PlannedRun, seeds: readonly number[]): PlannedRun[] {
  const ignoresSeed = request.method === denseMethod || isAblation(request.method)
  return (ignoresSeed ? seeds.slice(0, 1) : seeds).map((seed) => ({ model, request: { ...request, seed } }))
}

/** Returns the name of a run: its method, its amount, and all settings that change the result. */
export function runName(request: PlannedRun['request'], seeds: number): string {
  const { method, seed, amount } = request
  // The amount of a run whose bytes are divided between parts and bits names the type.
  const weights = mixedBudget(amount) ? undefined : request.weights
  const seeded = seeds > 1 && !isSeedless(method)
  // The weight type and a rough precision are part of the name, so that they appear wherever the run's numbers do.
  return [
    ...treatmentName(request),
    ...(seeded ? [`seed ${seed}`] : []),
    ...(weights ? [weightText(weights)] : []),
    ...roughPrecision(request),
  ]
    .join(', ')
    .slice(0, 200)
}

/** Returns the name of the weight file that runs with these settings would write, whatever their seeds. */
export function fileName(request: PlannedRun['request']): string {
  const { method, amount } = request
  const weights = mixedBudget(amount) ? undefined : request.weights
  return (
    [...treatmentName(request), ...roughPrecision(request)].join(', ') +
    (weights ? `${method === denseMethod ? ' ' : ' in '}${weightText(weights)}` : '')
  )
}

/** `bfloat16` if a run was computed with it throughout. Other precisions make the choices of float32. */
const roughPrecision = ({ method, precision }: PlannedRun['request']): string[] =>
  precision === 'bfloat16' && !isInspection(method) ? ['bfloat16'] : []

const isSeedless = (method: string): boolean => method === denseMethod || isAblation(method) || isInspection(method)

/** Returns the parts of a name: the method with its amount, and all settings that change the weights, except seed and weight type. */
function treatmentName({ method, amount, options, vocabulary, repair, recover }: PlannedRun['request']): string[] {
  if (method === denseMethod) return ['dense']
  if (isInspection(method)) return [titleOfMethod(method)]
  const chosen = Object.entries(options).map(([name, value]) => optionText(name, value))
  if (isAblation(method)) return [`Ablation: ${titleOfMethod(method)}`, ...chosen]
  return [
    setsRows(method, options) ? titleOfMethod(method) : `${titleOfMethod(method)} ${amountText(amount)}`,
    ...(vocabulary ? [keptRowsText(vocabulary)] : []),
    ...(repair ? [repairTitles[repair.kind]] : []),
    ...(recover ? [recoveryTitle(recover.amount)] : []),
    ...chosen,
  ]
}

/** Returns the requested sparsity. Null for ablations, which use several, for inspections, and if a budget or a share of experts determines the sparsity. */
export function nominalOf({ amount, method }: Pick<RunRequest, 'amount' | 'method'>, blocks: number): number | null {
  if (isAblation(method) || isInspection(method) || !statesSparsity(amount)) return null
  return 'sparsity' in amount ? amount.sparsity : Math.min(1, amount.blocks / Math.max(1, blocks))
}

/** Returns a grid that makes this run. */
export function gridOfRun(model: string, request: RunRequest): Grid {
  const {
    method,
    options,
    amount,
    seed,
    calibration,
    vocabulary,
    repair,
    recover,
    weights,
    measures,
    beginToken,
    backend,
    precision,
    memoryBytes,
    localFolder,
  } = request
  const removes = method !== denseMethod
  return {
    models: [model],
    methods: removes ? [{ method, options }] : [],
    amounts: removes && !isAblation(method) ? [amount] : [],
    seeds: [seed],
    ...(weights ? { weights: [weights] } : {}),
    measures,
    backend,
    ...(beginToken === undefined ? {} : { beginToken }),
    ...(precision === undefined ? {} : { precision }),
    ...(calibration ? { calibration } : {}),
    ...(vocabulary ? { vocabulary } : {}),
    ...(repair ? { repairs: [repair.kind], repairData: repair.calibration } : { repairs: ['none'] }),
    ...(recover
      ? { recoveries: [recover.amount], recoveryData: recover.text, ...(recover.trains ? { recoveryTrains: recover.trains } : {}) }
      : {}),
    ...(localFolder === undefined ? {} : { localFolder }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  }
}
