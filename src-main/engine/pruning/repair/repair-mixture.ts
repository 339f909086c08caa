import { add, matMul, mul, sub, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { at, outside } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairedProjection } from '#contract/pruning/repair.ts'
import { isConstant, layoutOf } from '#engine/architectures/spec.ts'
import type { NamedTensor } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ExpertActivations } from '#engine/model/parts/part.ts'
import { keptExperts } from '#engine/model/views/kept-experts.ts'
import { expertDownName, expertDtype } from '#engine/model/views/plan-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { disposePart, roundTo } from '#engine/model/weights/unpack.ts'
import { blockOf, isUnread, type PartWeights } from '#engine/model/weights/weights.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { changed, solveWithRidge } from './choose-ridge.ts'
import { NormalEquations } from './normal-equations.ts'
import type { RepairWalk, SeenLane } from './repair-walk.ts'
import type { Segment } from './segments.ts'

interface MixtureToRepair {
  readonly view: ModelView
  readonly plan: Plan
  readonly windows: Windows
  readonly segment: Segment
  /** Bytes that the collected inputs of experts may take. */
  readonly inputBytes: number
}

/**
 * Fits the down projections of the remaining experts to the mixture's target, one expert after another. Each expert is fitted to what the
 * others leave missing, so every accepted fit reduces the error of the whole mixture. Experts with too few tokens keep their weights, and
 * so do those whose fit does not reduce the held-out error of the whole.
 */
export async function repairMixture(
  walk: RepairWalk,
  { view, plan, windows, segment, inputBytes }: MixtureToRepair,
): Promise<RepairedProjection & { tensors: Map<string, NamedTensor> }> {
  const block = blockOf(segment.part)
  const { spec, model } = view
  const { mlp } = at(plan.blocks, block)
  const kept = mlp === 'removed' ? [] : keptExperts(mlp, layoutOf(spec, block).experts ?? 0)
  const dtype = expertDtype(model.checkpoint, spec, block)
  const tensors = new Map<string, NamedTensor>()
  const fit = new MixtureFit(spec.hidden)
  const expertsAtOnce = Math.max(1, Math.floor((kept.length * inputBytes) / inputBytesOf(view, block, windows)))
  for (let first = 0; first < kept.length; first += expertsAtOnce) {
    const isInBatch = (index: number) => index >= first && index < first + expertsAtOnce
    await walk.lookAtMixture(
      segment,
      (lane, { experts = [], output }, wanted) => {
        for (const expert of experts) if (isInBatch(expert.expert)) fit.collect(lane, expert)
        if (output) fit.begin(lane, wanted(), output)
      },
      first > 0 ? isInBatch : undefined,
    )
    await walk.withPruned(segment.part, async (weights) => {
      for (const [index, routed] of fit.takeCollected()) {
        const weight = await withDown(weights, index, (down) => fit.solve(routed, down, (exact) => roundTo(exact, dtype)))
        if (!weight) continue
        tensors.set(expertDownName(block, at(kept, index).number), {
          values: weight.dataSync() as Float32Array,
          shape: weight.shape,
          dtype,
        })
        weight.dispose()
      }
    })
  }
  const all = kept.filter(({ constant }) => !constant).length
  return { block, projection: 'down', ...fit.figures(), experts: { replaced: tensors.size, fitted: fit.ridges.length, all }, tensors }
}

/** Returns the bytes that the inputs of all experts take on the windows. Counts both models, although a one-pass repair runs only one. */
function inputBytesOf({ spec }: ModelView, block: number, windows: Windows): number {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  return 2 * 4 * tokens * (spec.router?.chosen ?? 1) * Math.max(1, layoutOf(spec, block).width)
}

/** Calls `use` with the down projection of an expert, which is read first if it is not in memory. */
async function withDown<T>({ mixture }: PartWeights, index: number, use: (down: Tensor2D) => T): Promise<T> {
  const expert = mixture?.experts[index]
  if (!expert || isConstant(expert)) throw new RangeError(`Expert ${index} has no projections.`)
  if (!isUnread(expert)) return use(expert.down)
  const mlp = await expert.read()
  try {
    return use(mlp.down)
  } finally {
    disposePart({ mlp })
  }
}

/** The fewest routed tokens for fitting an expert, and for judging the fit. With fewer, the fit would follow noise. */
const enough = { fitted: 100, heldOut: 32 } as const

/** The tokens of one lane that were routed to an expert. */
interface Routed {
  readonly lane: SeenLane
  /** Their rows in the lane. */
  readonly rows: Int32Array
  /** The inputs of the expert's down projection times the factors on its output, [n, K]. */
  readonly inputs: Float32Array
}

/** Fits the experts of a mixture one after another to what the mixture's output lacks. Each fit reduces what is missing. */
export class MixtureFit {
  /** The ridges of the experts that had enough tokens, in the order of fitting. */
  readonly ridges: number[] = []
  readonly #hidden: number
  /** What the output still lacks compared with the target, for each lane: [N, D]. */
  readonly #missing = new Map<string, Float32Array>()
  /** The keys of the held-out lanes. */
  readonly #judging: string[] = []
  #collected = new Map<number, Routed[]>()
  /** Sum of squares of the target on held-out windows. */
  #wanted = 0
  /** Sum of squares on held-out windows of what was missing before any fit. */
  #before = 0

  constructor(hidden: number) {
    this.#hidden = hidden
  }

  /** Records a mixture's target and its output on a lane. */
  begin(lane: SeenLane, wanted: Tensor2D, output: Tensor2D): void {
    const missing = sub(wanted, output).dataSync() as Float32Array
    this.#missing.set(keyOf(lane), missing.slice())
    if (!lane.heldOut) return
    this.#wanted += squares(wanted.dataSync() as Float32Array)
    this.#before += squares(missing)
    this.#judging.push(keyOf(lane))
  }

  /** Keeps the inputs of an expert's down projection. An expert that is a constant has none. */
  collect(lane: SeenLane, { expert, rows, gates, inner }: ExpertActivations): void {
    if (!inner) return
    const inputs = mul(inner, tensor2d(gates, [gates.length, 1])).dataSync() as Float32Array
    this.#collected.set(expert, [...(this.#collected.get(expert) ?? []), { lane, rows, inputs: inputs.slice() }])
  }

  /** Returns the collected inputs by the index of their expert, ascending, and forgets them. */
  takeCollected(): [number, Routed[]][] {
    const taken = [...this.#collected].sort(([a], [b]) => a - b)
    this.#collected = new Map()
    return taken
  }

  /**
   * Fits a down projection [D, K] to its own output plus what is missing, and updates what is missing. `round` rounds weights to the type
   * in which they are stored. Returns undefined if the expert has too few tokens or the held-out error does not fall.
   */
  solve(routed: readonly Routed[], old: Tensor2D, round: (exact: Tensor2D) => Tensor2D): Tensor2D | undefined {
    const tokens = (heldOut: boolean) =>
      routed.reduce((sum, { lane, rows }) => sum + (lane.heldOut === heldOut && !lane.repaired ? rows.length : 0), 0)
    if (tokens(false) < Math.max(enough.fitted, old.shape[1]) || tokens(true) < enough.heldOut) return undefined
    const equations = { fitted: new NormalEquations(old), heldOut: new NormalEquations(old) }
    for (const one of routed)
      tidy(() => {
        const [inputs, missing] = [this.#inputsOf(one), this.#missingAt(one)]
        const target = add<Tensor2D>(matMul(inputs, old, false, true), missing)
        equations[one.lane.heldOut ? 'heldOut' : 'fitted'].add(inputs, target, missing)
      })
    const { changes, ridge } = solveWithRidge(equations, true)
    equations.fitted.dispose()
    equations.heldOut.dispose()
    this.ridges.push(ridge)
    // Held-out windows also judge the experts that follow, so on them we subtract the fit that has not seen them.
    if (!changes) return undefined
    const rounded = (change: Float64Array) => tidy(() => round(changed(old, change)))
    const [fitted, heldOut] = [rounded(changes.all), rounded(changes.judged as Float64Array)]
    for (const one of routed) this.#subtractChange(one, one.lane.heldOut ? heldOut : fitted, old)
    heldOut.dispose()
    return fitted
  }

  /** Returns the held-out errors before and after all fits, relative to the target, and the ridge that most experts have. */
  figures(): Pick<RepairedProjection, 'ridge' | 'before' | 'after'> {
    let after = 0
    for (const key of this.#judging) after += squares(this.#missingOn(key))
    const often = Map.groupBy(this.ridges, (ridge) => ridge)
    const [ridge = 0] = [...often].sort(([, a], [, b]) => b.length - a.length)[0] ?? []
    return { ridge, before: this.#before / this.#wanted, after: after / this.#wanted }
  }

  #inputsOf({ rows, inputs }: Routed): Tensor2D {
    return tensor2d(inputs, [rows.length, inputs.length / rows.length])
  }

  #missingOn(key: string): Float32Array {
    const values = this.#missing.get(key)
    if (!values) throw new Error(`Lane ${key} was never begun.`)
    return values
  }

  #missingAt({ lane, rows }: Routed): Tensor2D {
    const values = this.#missingOn(keyOf(lane))
    const hidden = this.#hidden
    const gathered = new Float32Array(rows.length * hidden)
    for (const [index, row] of rows.entries()) gathered.set(values.subarray(row * hidden, (row + 1) * hidden), index * hidden)
    return tensor2d(gathered, [rows.length, hidden])
  }

  /** Subtracts from what is missing what the new weights add over the old ones. */
  #subtractChange(routed: Routed, weight: Tensor2D, old: Tensor2D): void {
    const hidden = this.#hidden
    const values = this.#missingOn(keyOf(routed.lane))
    const change = valuesOf(() => matMul(this.#inputsOf(routed), sub(weight, old), false, true))
    for (const [index, row] of routed.rows.entries())
      for (let i = 0; i < hidden; i++) {
        const to = row * hidden + i
        values[to] = (values[to] ?? outside(values, to)) - (change[index * hidden + i] ?? outside(change, index * hidden + i))
      }
  }
}

const keyOf = ({ index, repaired }: SeenLane): string => `${index}${repaired ? ' repaired' : ''}`

function squares(values: Float32Array): number {
  let sum = 0
  for (const value of values) sum += value * value
  return sum
}
