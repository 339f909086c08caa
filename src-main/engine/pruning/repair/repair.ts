import { EspalierError } from '#contract/errors.ts'
import type { Plan, Replaceable } from '#contract/pruning/plan.ts'
import { fewestRepairWindows, type RepairedProjection, type RepairKind } from '#contract/pruning/repair.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { type NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { lastProjection, replacedName, storedDtype } from '#engine/model/views/plan-tensors.ts'
import { replaceProjection } from '#engine/model/views/replace.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { roundTo } from '#engine/model/weights/unpack.ts'
import { blockOf, isAttention, type Part, type PartWeights } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodRun } from '../method.ts'
import { changed, solveWithRidge } from './choose-ridge.ts'
import { repairing, repairRoom } from './repair-memory.ts'
import { repairMixture } from './repair-mixture.ts'
import { RepairWalk } from './repair-walk.ts'
import { type Segment, segmentsOf } from './segments.ts'

interface RepairInput {
  /** The dense model. */
  readonly view: ModelView
  /** The plan of a method. */
  readonly plan: Plan
  /** The plan's tensors, if it has any. */
  readonly tensors?: StoredTensors | undefined
  /** Calibration windows; the last eighth of them, at least one, is held out. */
  readonly windows: Windows
  readonly kind: RepairKind
  readonly run: Pick<MethodRun, 'tensorStep' | 'progress' | 'signal'>
}

export interface Repaired {
  /** The plan with replaced projections. */
  readonly plan: Plan
  /** The replaced projections, and the tensors that the plan had before. */
  readonly tensors: StoredTensors | undefined
  /** Every projection that was considered, in running order. */
  readonly projections: RepairedProjection[]
}

const projectionStep: StepKind = { version: 3 }

/**
 * Replaces projections of a plan in closed form, so that the pruned model answers more like the dense one. Each projection onto the stream
 * gets a ridge regression that shrinks toward the weights that the plan leaves (see README.md), and is one step. Throws `infeasible` for
 * what cannot be repaired, before any window runs.
 */
export async function repairPlan({ view, plan, tensors, windows, kind, run }: RepairInput): Promise<Repaired> {
  requireRepairable(view, plan, windows)
  const text = { windows: windows.length, tokens: windows.reduce((sum, { length }) => sum + length, 0) }
  const room = repairRoom(view.model.workspaceBytes, view.spec, plan, text, kind)
  const segments = segmentsOf(view.spec, view.parts, plan)
  const walk = new RepairWalk(view, { plan, tensors }, segments, kind === 'in-order', run.signal)
  const solved: SolvedProjection[] = []
  const lazy = new LazyWalk()
  lazy.later(() => walk.begin(windows, room.forInputs))
  try {
    for (const [index, segment] of segments.entries()) {
      run.progress(repairing, index, segments.length, 'projections')
      lazy.later(() => walk.enter(segment))
      const on = { plan, windows, kind, part: segment.part, files: tensors?.files.map(({ sha256 }) => ({ sha256 })) }
      const step = { kind: projectionStep, label: `repair ${nameOf(segment.part)}`, on }
      const mixture = { view, plan, windows, segment, inputBytes: room.inputBytes }
      const compute = isMixture(view.spec, segment.part) ? () => repairMixture(walk, mixture) : () => solveProjection(walk, segment, view)
      const projection = walk.needsRepair(segment) ? await run.tensorStep(step, () => lazy.run(compute)) : undefined
      const replace = projection && replacement(mixture, projection)
      lazy.later(() => walk.leave(segment, replace))
      if (projection) solved.push(projection)
    }
    run.progress(repairing, segments.length, segments.length, 'projections')
  } finally {
    walk.dispose()
  }
  const stored = solved.map(({ tensors }) => tensors).filter(({ tensors }) => tensors.size > 0)
  const blocks = plan.blocks.map((block, index) => {
    const replaced = solved.filter((one) => one.block === index && one.tensors.tensors.size > 0).map(({ projection }) => projection)
    return replaced.length > 0 ? { ...block, replaced } : block
  })
  return {
    plan: { ...plan, blocks },
    tensors: stored.length > 0 ? StoredTensors.join(...(tensors ? [tensors] : []), ...stored) : tensors,
    projections: solved.map(({ tensors: _, ...projection }) => projection),
  }
}

/**
 * Delays the moves of a walk until a projection has to be solved, so that a run that finds every projection in its steps reads no weights
 * here.
 */
class LazyWalk {
  readonly #moves: (() => Promise<void>)[] = []

  /** Adds a move, which is made before the next computation. */
  later(move: () => Promise<void>): void {
    this.#moves.push(move)
  }

  /** Makes the delayed moves in their order, then computes. */
  async run<T>(compute: () => Promise<T>): Promise<T> {
    for (const move of this.#moves.splice(0)) await move()
    return compute()
  }
}

type SolvedProjection = RepairedProjection & { readonly tensors: StoredTensors }

/** Returns a function that puts the repaired projection into the weights of a part, or undefined if the plan's projection stays. */
function replacement(
  { segment: { part }, plan, view: { model, spec } }: { readonly segment: Segment; readonly plan: Plan; readonly view: ModelView },
  { block: repaired, projection, tensors }: SolvedProjection,
): ((own: PartWeights) => Promise<PartWeights>) | undefined {
  if (tensors.tensors.size === 0) return undefined
  const blocks = plan.blocks.map((one, block) => (block === repaired ? { ...one, replaced: [projection] } : one))
  return (own) => replaceProjection(part, own, { checkpoint: model.checkpoint, spec, plan: { ...plan, blocks }, tensors })
}

const isMixture = (spec: DecoderSpec, part: Part): boolean => !isAttention(part) && spec.block(blockOf(part)).mixture !== undefined

/** Solves a segment's projection. New weights are rounded to the checkpoint's type, so a view equals what will be saved. */
async function solveProjection(
  walk: RepairWalk,
  segment: Segment,
  { model }: ModelView,
): Promise<RepairedProjection & { tensors: Map<string, NamedTensor> }> {
  const block = blockOf(segment.part)
  const projection = projectionOf(segment.part)
  const { equations, weight: old } = await walk.equations(segment)
  const { changes, ...figures } = solveWithRidge(equations)
  const tensors = new Map<string, NamedTensor>()
  if (changes) {
    const weight = changed(old, changes.all)
    const dtype = storedDtype(model.checkpoint, lastProjection(model.spec, block, projection).weight)
    const rounded = roundTo(weight, dtype)
    tensors.set(weightName(segment.part), { values: rounded.dataSync() as Float32Array, shape: rounded.shape, dtype })
    weight.dispose()
    rounded.dispose()
  }
  equations.fitted.dispose()
  equations.heldOut.dispose()
  old.dispose()
  return { block, projection, ...figures, tensors }
}

const projectionOf = (part: Part): Replaceable => (isAttention(part) ? 'output' : 'down')
const nameOf = (part: Part): string => `block ${blockOf(part)} ${projectionOf(part)}`
const weightName = (part: Part): string => replacedName(blockOf(part), projectionOf(part), 'weight')

function requireRepairable({ spec }: ModelView, { blocks, slice }: Plan, windows: Windows): void {
  if (slice || spec.sliceWidth !== undefined)
    throw new EspalierError(
      'infeasible',
      'A sliced model cannot be repaired, because slicing rotates its hidden states. Choose another method.',
    )
  if (blocks.some(({ mlp }) => mlp !== 'removed' && (mlp.inputs ?? mlp.outputs)))
    throw new EspalierError(
      'infeasible',
      'A plan that cuts hidden channels of MLPs cannot be repaired. Set the option cut of 2SSP to neurons.',
    )
  if (windows.length < fewestRepairWindows)
    throw new EspalierError(
      'infeasible',
      `Repair needs at least ${fewestRepairWindows} windows of calibration text, but only ${windows.length} are available. Use more windows or a longer text.`,
    )
}
