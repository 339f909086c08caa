import { add, dispose, matMul, mul, sub, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import type { RepairedProjection } from '#contract/pruning/repair.ts'
import type { ExpertActivations } from '#engine/model/experts/mixture.ts'
import { valuesOf } from '#engine/tensor/read.ts'
import { solveWithRidge } from './choose-ridge.ts'
import { makeEquations } from './make-equations.ts'
import type { SeenLane } from './walk.ts'

/** The fewest routed tokens that an expert is fitted and judged on. With fewer, the fit would follow chance. */
const enough = { fitted: 100, heldOut: 32 } as const

/** The tokens of some windows that chose an expert: their rows, and the input of its down projection times its factor, [n, K]. */
interface Routed {
  readonly lane: SeenLane
  readonly rows: Int32Array
  readonly inputs: Float32Array
}

/** What a mixture's output lacks, and the fits of its experts to that. Each fit takes its share away. */
export class MixtureFit {
  /** The ridges of the experts that had enough tokens, in turn. */
  readonly ridges: number[] = []
  readonly #hidden: number
  /** What a mixture still lacks, lane by lane, [N, D]. */
  readonly #missing = new Map<string, Float32Array>()
  /** The held-out lanes. */
  readonly #judging: string[] = []
  #collected = new Map<number, Routed[]>()
  /** Sums of squares on held-out windows: of the target, and of what was missing at first. */
  #wanted = 0
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

  /** Keeps the inputs of an expert's down projection. A constant has none. */
  collect(lane: SeenLane, { expert, rows, gates, inner }: ExpertActivations): void {
    if (!inner) return
    const inputs = mul(inner, tensor2d(gates, [gates.length, 1])).dataSync() as Float32Array
    this.#collected.set(expert, [...(this.#collected.get(expert) ?? []), { lane, rows, inputs: inputs.slice() }])
  }

  /** The collected inputs by the expert's place, ascending. */
  takeCollected(): [number, Routed[]][] {
    const taken = [...this.#collected].sort(([a], [b]) => a - b)
    this.#collected = new Map()
    return taken
  }

  /**
   * Fits a down projection [D, K] to its own output plus what is missing. Undefined if its tokens are few or the held-out error does not
   * fall.
   */
  solve(routed: readonly Routed[], old: Tensor2D, round: (exact: Tensor2D) => Tensor2D): Tensor2D | undefined {
    const tokens = (heldOut: boolean) =>
      routed.reduce((sum, { lane, rows }) => sum + (lane.heldOut === heldOut && !lane.repaired ? rows.length : 0), 0)
    if (tokens(false) < Math.max(enough.fitted, old.shape[1]) || tokens(true) < enough.heldOut) return undefined
    const equations = { fitted: makeEquations(), heldOut: makeEquations() }
    for (const one of routed)
      tidy(() => {
        const inputs = this.#inputsOf(one)
        const target = add<Tensor2D>(matMul(inputs, old, false, true), this.#lackOf(one))
        equations[one.lane.heldOut ? 'heldOut' : 'fitted'].add(inputs, target)
      })
    const { weight, judged, ridge } = solveWithRidge(equations, old)
    equations.fitted.dispose()
    equations.heldOut.dispose()
    this.ridges.push(ridge)
    // Held-out windows also judge the next experts, so there only the fit that has not seen them is subtracted.
    const rounded = weight && { fitted: round(weight), heldOut: round(judged) }
    if (rounded) for (const one of routed) this.#take(one, rounded[one.lane.heldOut ? 'heldOut' : 'fitted'], old)
    dispose([judged, ...(weight ? [weight] : []), ...(rounded ? [rounded.heldOut] : [])])
    return rounded?.fitted
  }

  /** Held-out errors before and after all fits, relative to the target, and the ridge that most experts have. */
  figures(): Pick<RepairedProjection, 'ridge' | 'before' | 'after'> {
    let after = 0
    for (const key of this.#judging) after += squares(this.#lackOn(key))
    const often = Map.groupBy(this.ridges, (ridge) => ridge)
    const [ridge = 0] = [...often].sort(([, a], [, b]) => b.length - a.length)[0] ?? []
    return { ridge, before: this.#before / this.#wanted, after: after / this.#wanted }
  }

  #inputsOf({ rows, inputs }: Routed): Tensor2D {
    return tensor2d(inputs, [rows.length, inputs.length / rows.length])
  }

  #lackOn(key: string): Float32Array {
    const values = this.#missing.get(key)
    if (!values) throw new Error(`Nothing is known of lane ${key}.`)
    return values
  }

  #lackOf({ lane, rows }: Routed): Tensor2D {
    const values = this.#lackOn(keyOf(lane))
    const hidden = this.#hidden
    const own = new Float32Array(rows.length * hidden)
    for (const [place, row] of rows.entries()) own.set(values.subarray(row * hidden, (row + 1) * hidden), place * hidden)
    return tensor2d(own, [rows.length, hidden])
  }

  /** Subtracts what the new weights add over the old ones from what is missing. */
  #take(routed: Routed, weight: Tensor2D, old: Tensor2D): void {
    const hidden = this.#hidden
    const values = this.#lackOn(keyOf(routed.lane))
    const more = valuesOf(() => matMul(this.#inputsOf(routed), sub(weight, old), false, true))
    for (const [place, row] of routed.rows.entries())
      for (let i = 0; i < hidden; i++) {
        const to = row * hidden + i
        values[to] = (values[to] ?? outside(values, to)) - (more[place * hidden + i] ?? outside(more, place * hidden + i))
      }
  }
}

const keyOf = ({ index, repaired }: SeenLane): string => `${index}${repaired ? ' repaired' : ''}`

function squares(values: Float32Array): number {
  let sum = 0
  for (const value of values) sum += value * value
  return sum
}
