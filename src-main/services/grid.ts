import { type CombinationPreview, denseMethod, type Grid, type RepairChoice } from '#contract/experiments.ts'
import { defaultRepairWindows } from '#contract/repair.ts'
import type { Amount, RunRequest } from '#contract/run-request.ts'

/** One run to be made: which model of the library, and the request without the place where that model is. */
export interface PlannedRun {
  model: string
  request: Omit<RunRequest, 'model'>
}

/** The runs of a grid in the order in which they are done: each model's dense baseline first. */
export function expandGrid(grid: Grid): PlannedRun[] {
  return grid.models.flatMap((model) => [
    { model, request: requestOf(grid, denseMethod, {}, { sparsity: 0 }, grid.seeds[0] ?? 0) },
    ...combinationsOf(grid, model).flatMap(({ method, options, amount, repair }) =>
      grid.seeds.map((seed) => ({ model, request: requestOf(grid, method, options, amount, seed, repair) })),
    ),
  ])
}

export interface Combination {
  model: string
  method: string
  options: Record<string, unknown>
  amount: Amount
  repair: RepairChoice
}

/** Every method with every amount, without the seeds. */
export function combinationsOf(grid: Grid, model: string): Combination[] {
  const repairs = grid.repairs ?? ['none']
  return grid.methods.flatMap(({ method, options }) =>
    grid.amounts.flatMap((amount) => repairs.map((repair) => ({ model, method, options, amount, repair }))),
  )
}

export function requestOf(
  grid: Grid,
  method: string,
  options: Record<string, unknown>,
  amount: Amount,
  seed: number,
  repair: RepairChoice = 'none',
): PlannedRun['request'] {
  const { calibration, measures, backend, memoryBytes, localFolder } = grid
  const dense = method === denseMethod
  const repairText = grid.repairData ?? (calibration && { ...calibration, windows: defaultRepairWindows })
  return {
    method,
    amount,
    options,
    seed,
    measures,
    backend,
    ...(calibration && !dense ? { calibration } : {}),
    ...(repair !== 'none' && repairText && !dense ? { repair: { kind: repair, calibration: repairText } } : {}),
    ...(localFolder === undefined ? {} : { localFolder }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  }
}

/** A name for people: method, share, and what makes it differ. */
export function runName({ method, amount, seed, options, repair }: PlannedRun['request'], seeds: number): string {
  if (method === denseMethod) return 'dense'
  const share = 'sparsity' in amount ? `${Number((amount.sparsity * 100).toFixed(2))} %` : `${amount.blocks} blocks`
  const chosen = Object.entries(options).map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
  return [`${method} ${share}`, ...(repair ? [`repaired ${repair.kind}`] : []), ...chosen, ...(seeds > 1 ? [`seed ${seed}`] : [])]
    .join(', ')
    .slice(0, 200)
}

export function nominalOf({ amount }: Pick<RunRequest, 'amount'>, blocks: number): number {
  return 'sparsity' in amount ? amount.sparsity : Math.min(1, amount.blocks / Math.max(1, blocks))
}

/** The grid that one run would have been made from. */
export function gridOfRun(model: string, request: RunRequest): Grid {
  const { method, options, amount, seed, calibration, repair, measures, backend, memoryBytes, localFolder } = request
  return {
    models: [model],
    methods: method === denseMethod ? [] : [{ method, options }],
    amounts: method === denseMethod ? [] : [amount],
    seeds: [seed],
    measures,
    backend,
    ...(calibration ? { calibration } : {}),
    ...(repair ? { repairs: [repair.kind], repairData: repair.calibration } : {}),
    ...(localFolder === undefined ? {} : { localFolder }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  }
}

/** The words for combinations that cannot be done. */
export function infeasibleMessage(combinations: readonly CombinationPreview[]): string {
  const problems = [...new Set(combinations.map(({ problem }) => problem ?? 'cannot be reached'))]
  const rest = problems.length > 3 ? ` And ${problems.length - 3} more.` : ''
  return problems.slice(0, 3).join(' ') + rest
}
