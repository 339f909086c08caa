import type { Recovery } from '#contract/pruning/recovery.ts'
import type { Repair } from '#contract/pruning/repair.ts'
import { amountText, fileSizeText, isPlain, mixedBudget, speedText } from '#contract/runs/amount-text.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import { fileCost, inUnit, typedBudget } from '#engine/budgets/find-sparsity.ts'
import { planAtSpeed, planWithin } from '#engine/budgets/plan-within.ts'
import type { Windows } from '#engine/data/windows.ts'
import { textOf } from '#engine/evaluation/measure.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodInput, MethodResult } from '#engine/pruning/method.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { isTrained, readHeldOut } from '#engine/pruning/recovery/held-out.ts'
import { recoverPlan } from '#engine/pruning/recovery/recover.ts'
import { writeWindows } from '#engine/pruning/recovery/written-text.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { planMixed } from './mixed-weights.ts'
import type { RunPlace } from './run-place.ts'
import { timePlans } from './time-plans.ts'
import { planOfWhole } from './trim-first.ts'

/** Refits the kept projections, if the request asks for a repair. */
export async function repairResult(place: RunPlace, result: MethodResult): Promise<{ result: MethodResult; repair?: Repair }> {
  const { model, steps, request } = place
  const { repair: wanted, seed } = request
  if (!wanted) return { result }
  const { windows, used, notes } = await place.read(wanted.calibration, seed)
  for (const text of notes) place.note(`Repair: ${text}`)
  const [start, found] = [performance.now(), steps.foundSeconds + steps.sharedSeconds]
  const run = steps.methodRun(seed)
  const { plan: pruned, tensors: own } = result
  const { plan, tensors, projections } = await repairPlan({
    view: denseView(model),
    plan: pruned,
    tensors: own,
    windows,
    kind: wanted.kind,
    run,
  })
  const seconds = (performance.now() - start) / 1000 + steps.foundSeconds + steps.sharedSeconds - found
  steps.seconds.repair = seconds
  const kept = projections.filter(({ before, after, experts }) => !(after < before) && experts?.fitted !== 0).length
  if (kept > 0)
    place.note(`Repair: ${kept} of ${projections.length} projections kept their weights, because their held-out error did not fall.`)
  const few = projections.reduce((sum, { experts }) => sum + (experts ? experts.all - experts.fitted : 0), 0)
  if (few > 0) place.note(`Repair: ${few} experts kept their weights, because they received too few tokens. Use more windows to fit them.`)
  const repair = { kind: wanted.kind, windows: windows.length, seconds, calibration: used, blocks: projections }
  return { result: { ...result, plan, ...(tensors ? { tensors } : {}) }, repair }
}

/** Trains the kept weights towards the dense model, if the request asks for a recovery. */
export async function recoverResult(place: RunPlace, result: MethodResult): Promise<{ result: MethodResult; recovery?: Recovery }> {
  const { model, steps, request } = place
  const { recover: wanted, seed } = request
  if (!wanted) return { result }
  const [start, found] = [performance.now(), steps.foundSeconds + steps.sharedSeconds]
  const ownFound = steps.foundSeconds
  const [view, run] = [denseView(model), steps.recoveryRun(seed)]
  const writer = { view, tokenizer: place.tokenizer, seed, run }
  const write = (windows: number, length: number, begin: number | undefined) => writeWindows(writer, windows, length, begin)
  const { plan, tensors, recovery, notes } = await recoverPlan({
    view,
    plan: result.tensors ? withFiles(result).plan : result.plan,
    tensors: result.tensors,
    request: wanted,
    read: (windows, choose) => place.read({ ...wanted.text, windows }, seed, { accepts: isTrained, choose, write }),
    heldOut: await readHeldOut(wanted.text, (data, from, accepts) => place.read(data, from, accepts ? { accepts } : {})),
    apart: await windowsInUse(place),
    elapsed: () => (performance.now() - start) / 1000 + steps.foundSeconds - ownFound,
    run,
  })
  for (const text of notes) place.note(`Recovery: ${text}`)
  const seconds = (performance.now() - start) / 1000 + steps.foundSeconds + steps.sharedSeconds - found
  steps.seconds.recovery = seconds
  return { result: { ...result, plan, ...(tensors ? { tensors } : {}) }, recovery: { ...recovery, seconds } }
}

/** The windows that a measure reads or that fit the repair. A recovery must not train on them. */
async function windowsInUse(place: RunPlace): Promise<Windows> {
  const { repair, measures, seed } = place.request
  const windows = repair ? [...(await place.read(repair.calibration, seed)).windows] : []
  for (const measure of measures) {
    const text = textOf(measure, place.model.spec)
    if (text) windows.push(...(await place.read(text, 0)).windows)
  }
  return windows
}

/** Lists the files of the result's tensors in its plan. */
export function withFiles(result: MethodResult): MethodResult {
  return result.tensors ? { ...result, plan: { ...result.plan, tensors: [...result.tensors.files] } } : result
}

/** A method's result, and the sparsity that was requested or that met the budget. */
export interface ChosenPlan {
  readonly result: MethodResult
  readonly sparsity: number
  /** With a budget: the predicted cost, which the sparsity was chosen by, and the real cost. */
  readonly predicted?: number
  readonly real?: number
}

/** Runs the method for the requested amount, or for the amount that meets the budget. */
export async function choosePlan(place: RunPlace, input: Omit<MethodInput<Record<string, unknown>>, 'budget'>): Promise<ChosenPlan> {
  const { model, request } = place
  const { amount, method } = request
  if (isPlain(amount)) {
    const budget = budgetFor(model.spec, amount)
    const result = await findMethod(method).plan({ ...input, budget })
    return { result, sparsity: result.nominal ?? budget.sparsity }
  }
  if (mixedBudget(amount)) return planMixed(place, input)
  const whole = place.trimmed?.whole ?? place
  if (!('bytes' in amount)) {
    const time = timePlans(whole, amount)
    return planAtSpeed(model.spec, method, input, amount, (plans) => time(plans.map((plan) => planOfWhole(place, plan))))
  }
  const { vocabulary } = planOfWhole(place, densePlan(model.spec))
  const cost = fileCost(whole.model, method, typedBudget(amount, request), vocabulary)
  return planWithin(model.spec, method, input, cost, { real: cost.of, near: 0.01, mayPass: false, attempts: 3 })
}

const relative = ' The machine’s speed changes, so this is relative to the time of the unpruned file at the start of the run.'

/**
 * The budget with the predicted and the real cost of the result, which are also noted. The size of a file that the run wrote is its real
 * size; otherwise it is computed from the plan.
 */
export function budgetMet(place: RunPlace, { predicted, real }: ChosenPlan, written: number | undefined): Pick<RunDocument, 'budget'> {
  const { amount } = place.request
  if (isPlain(amount) || predicted === undefined || real === undefined) return {}
  const inOwn = (cost: number) => ('bytes' in amount ? cost : inUnit(amount, cost))
  const isWritten = 'bytes' in amount && amount.format === 'gguf'
  const found = { predicted: inOwn(predicted), real: (isWritten ? written : undefined) ?? inOwn(real) }
  const off = `${(100 * Math.abs(found.predicted / found.real - 1)).toFixed(2)} % ${found.predicted < found.real ? 'less' : 'more'}`
  const text = 'bytes' in amount ? fileSizeText(found.real) : speedText(withValue(amount, found.real))
  place.note(`The file has ${text}; ${amountText(amount)} was requested. The prediction was ${off}.${'bytes' in amount ? '' : relative}`)
  return { budget: 'bytes' in amount ? { ...typedBudget(amount, place.request), ...found } : { ...amount, ...found } }
}

/** The speed with its requested value replaced by a measured one. */
function withValue(budget: SpeedBudget, value: number): SpeedBudget {
  const rounded = Number(value.toPrecision(3))
  return 'milliseconds' in budget ? { ...budget, milliseconds: rounded } : { tokensPerSecond: rounded }
}
