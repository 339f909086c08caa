import type { Recovery } from '#contract/pruning/recovery.ts'
import type { Repair } from '#contract/pruning/repair.ts'
import type { Windows } from '#engine/data/windows.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { MethodResult } from '#engine/pruning/method.ts'
import { isTrained, readHeldOut } from '#engine/pruning/recovery/held-out.ts'
import { recoverPlan } from '#engine/pruning/recovery/recover.ts'
import { writeWindows } from '#engine/pruning/recovery/written-text.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import type { RunPlace } from './run-place.ts'

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
  const [start, found] = [performance.now(), steps.foundSeconds]
  const [view, run] = [denseView(model), steps.recoveryRun(seed)]
  const write = (windows: number, length: number) => writeWindows({ view, tokenizer: place.tokenizer, seed, run }, windows, length)
  const { plan, tensors, recovery, notes } = await recoverPlan({
    view,
    plan: result.tensors ? withFiles(result).plan : result.plan,
    tensors: result.tensors,
    request: wanted,
    read: (windows, choose) => place.read({ ...wanted.text, windows }, seed, { accepts: isTrained, choose, write }),
    heldOut: await readHeldOut(wanted.text.sequenceLength, (data, accepts) => place.read(data, 0, { accepts })),
    apart: await windowsInUse(place),
    run,
  })
  for (const text of notes) place.note(`Recovery: ${text}`)
  const seconds = (performance.now() - start) / 1000 + steps.foundSeconds - found
  steps.seconds.recovery = seconds
  return { result: { ...result, plan, ...(tensors ? { tensors } : {}) }, recovery: { ...recovery, seconds } }
}

/** The windows that measure perplexity or fit the repair. A recovery must not train on them. */
async function windowsInUse(place: RunPlace): Promise<Windows> {
  const { repair, measures, seed } = place.request
  const windows = repair ? [...(await place.read(repair.calibration, seed)).windows] : []
  for (const measure of measures) if (measure.kind === 'perplexity') windows.push(...(await place.read(measure.data, 0)).windows)
  return windows
}

/** Lists the files of the result's tensors in its plan. */
export function withFiles(result: MethodResult): MethodResult {
  return result.tensors ? { ...result, plan: { ...result.plan, tensors: [...result.tensors.files] } } : result
}
