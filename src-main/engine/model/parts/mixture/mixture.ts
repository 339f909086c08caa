import {
  add,
  concat,
  gather,
  mul,
  type Rank,
  reshape,
  sigmoid,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tensor2d,
  tile,
} from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { type DecoderSpec, isConstant, type RouterKind } from '#engine/architectures/spec.ts'
import { isUnread, type MixtureWeights, type MlpWeights, type UnreadExpert } from '#engine/model/weights/weights.ts'
import { type Matrix, project } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { neuronsOf } from '../mlp/mlp.ts'
import type { ExpertActivations } from '../part.ts'

/** Tokens on their way through a mixture: the experts that ran, and where each token is among their rows. */
export interface RoutedExperts {
  readonly experts: readonly ExpertActivations[]
  /** For each token, its indices in the concatenated rows of all experts, in the order of its experts' numbers: [N, k]. */
  readonly places: Int32Array
  readonly chosen: number
  readonly weights: MixtureWeights<Matrix>
}

/** Which experts the tokens of a mixture chose. */
interface Routes {
  /** By expert number: the rows of the input that chose it, ascending, and the factors on its output for them. */
  readonly experts: ReadonlyMap<number, Pick<ExpertActivations, 'rows' | 'gates'>>
  readonly places: Int32Array
}

function chooseRoutes(input: Tensor2D, weights: MixtureWeights<Matrix>, kind: RouterKind): Routes {
  const correction = weights.correction && (weights.correction.dataSync() as Float32Array)
  const logits = valuesOf(() => project(input, weights.router, weights.routerBias))
  const { numbers, gates } = chooseExperts(logits, weights.experts.length, kind, correction)
  const slots = Array.from({ length: weights.experts.length }, (): number[] => [])
  for (const [slot, expert] of numbers.entries()) slots[expert]?.push(slot)
  const places = new Int32Array(numbers.length)
  const met = new Int32Array(numbers.length / kind.chosen)
  let place = 0
  const experts = [...slots.entries()].flatMap(([expert, taken]): [number, { rows: Int32Array; gates: Float32Array }][] => {
    if (taken.length === 0) return []
    const rows = Int32Array.from(taken, (slot) => Math.floor(slot / kind.chosen))
    for (const row of rows) {
      places[row * kind.chosen + at(met, row)] = place++
      met[row] = at(met, row) + 1
    }
    return [[expert, { rows, gates: Float32Array.from(taken, (slot) => gates[slot] as number) }]]
  })
  return { experts: new Map(experts), places }
}

/**
 * Runs each expert on the tokens that chose it, so that its weights are read once. Experts that no token chose, or that `only` excludes, do
 * not run.
 */
export function routeTokens(
  input: Tensor2D,
  weights: MixtureWeights<Matrix>,
  spec: DecoderSpec,
  only: (expert: number) => boolean = () => true,
): RoutedExperts {
  const kind = spec.router as RouterKind
  const { experts, places } = chooseRoutes(input, weights, kind)
  const wanted = [...experts].filter(([expert]) => only(expert))
  const run = wanted.map(([expert, route]): ExpertActivations => {
    const ofExpert = weights.experts[expert] as ExpertWeights
    if (isUnread(ofExpert)) throw new Error(`Expert ${expert} is not in memory.`)
    return { expert, ...route, ...runExpert(input, route.rows, ofExpert, spec) }
  })
  return { experts: run, places, chosen: kind.chosen, weights }
}

type ExpertWeights = MixtureWeights<Matrix>['experts'][number]

function runExpert(
  input: Tensor2D,
  rows: Int32Array,
  expert: Exclude<ExpertWeights, UnreadExpert<Matrix>>,
  spec: DecoderSpec,
): Pick<ExpertActivations, 'input' | 'inner' | 'output'> {
  if (isConstant(expert)) return { output: tile(reshape<Rank.R2>(expert.constant, [1, -1]), [rows.length, 1]) }
  const chosen: Tensor2D = rows.length === input.shape[0] ? input : gather(input, tensor1d(rows, 'int32'))
  const inner = neuronsOf(chosen, expert, spec)
  return { input: chosen, inner, output: project(inner, expert.down, expert.downBias) }
}

const scaleRows = ({ output, gates }: ExpertActivations): Tensor2D => mul<Tensor2D>(output, tensor2d(gates, [gates.length, 1]))

/**
 * Computes the output of a mixture, [N, D]. For each token, adds the outputs of its experts, each times its factor, in the order of their
 * numbers, and then the output of the shared expert, if there is one.
 */
export function combineExperts(input: Tensor2D, { experts, places, chosen, weights }: RoutedExperts, spec: DecoderSpec): Tensor2D {
  const scaled = experts.map(scaleRows)
  const all: Tensor2D = scaled.length === 1 ? (scaled[0] as Tensor2D) : concat(scaled, 0)
  const tokens = places.length / chosen
  const placesOf = (slot: number): Tensor1D =>
    tensor1d(Int32Array.from({ length: tokens }, (_, row) => places[row * chosen + slot] as number))
  let output: Tensor2D = gather(all, placesOf(0))
  for (let slot = 1; slot < chosen; slot++) output = add(output, gather(all, placesOf(slot)))
  return addShared(input, output, weights, spec)
}

function addShared(input: Tensor2D, output: Tensor2D, { shared, sharedGate }: MixtureWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  return shared ? add(output, sharedOutput(input, shared, sharedGate, spec)) : output
}

/** A stream on its way through a mixture whose experts are read one by one. */
export class ExpertSums {
  readonly routes: Routes['experts']
  readonly #input: Tensor2D
  readonly #weights: MixtureWeights<Matrix>
  readonly #spec: DecoderSpec
  /** For each token, the sum of its experts' outputs so far: [N, D]. */
  readonly #sums: Float32Array

  /** Takes ownership of the input. */
  constructor(input: Tensor2D, weights: MixtureWeights<Matrix>, spec: DecoderSpec) {
    this.routes = chooseRoutes(input, weights, spec.router as RouterKind).experts
    this.#input = input
    this.#weights = weights
    this.#spec = spec
    this.#sums = new Float32Array(input.size)
  }

  /**
   * Runs an expert on the tokens that chose it. Call this for experts in the order of their numbers, so that the sums equal those of
   * `combineExperts` bit for bit.
   */
  add(expert: number, own: Exclude<ExpertWeights, UnreadExpert<Matrix>>, observe?: (seen: ExpertActivations) => void): void {
    const route = this.routes.get(expert)
    if (!route) return
    const scaled = valuesOf(() => {
      const seen = { expert, ...route, ...runExpert(this.#input, route.rows, own, this.#spec) }
      observe?.(seen)
      return scaleRows(seen)
    })
    const [sums, width] = [this.#sums, this.#input.shape[1]]
    for (const [place, row] of route.rows.entries()) {
      const [from, to] = [place * width, row * width]
      for (let i = 0; i < width; i++) sums[to + i] = (sums[to + i] as number) + (scaled[from + i] as number)
    }
  }

  get input(): Tensor2D {
    return this.#input
  }

  /** The output of the mixture, [N, D]. */
  output(): Tensor2D {
    return addShared(this.#input, tensor2d(this.#sums, this.#input.shape), this.#weights, this.#spec)
  }

  dispose(): void {
    this.#input.dispose()
  }
}

function sharedOutput(input: Tensor2D, shared: MlpWeights<Matrix>, gate: Tensor2D | undefined, spec: DecoderSpec): Tensor2D {
  const output = project(neuronsOf(input, shared, spec), shared.down, shared.downBias)
  return gate ? mul(output, sigmoid(project(input, gate))) : output
}

/** The experts of each token [N, k], highest score first, and the factors on their outputs. */
export interface Choice {
  readonly numbers: Int32Array
  readonly gates: Float64Array
}

/**
 * Chooses experts by the logits [N, E] of a router. Ties go to the lower number. Sums are in float64. `correction` is added to the scores
 * for the choice only.
 */
export function chooseExperts(logits: Float32Array, experts: number, kind: RouterKind, correction?: ArrayLike<number>): Choice {
  const tokens = logits.length / experts
  const { chosen } = kind
  const choice = { numbers: new Int32Array(tokens * chosen), gates: new Float64Array(tokens * chosen) }
  for (let row = 0; row < tokens; row++) {
    const scores = scoresOf(logits.subarray(row * experts, (row + 1) * experts), kind)
    const wanted = correction ? scores.map((score, expert) => score + (correction[expert] as number)) : scores
    const best = largest(kind.groups ? insideGroups(wanted, kind.groups) : wanted, chosen)
    const total = kind.renormalised ? best.reduce((sum, expert) => sum + (scores[expert] as number), 0) : 1
    best.forEach((expert, slot) => {
      choice.numbers[row * chosen + slot] = expert
      choice.gates[row * chosen + slot] =
        ((scores[expert] as number) / (total + (kind.scores === 'sigmoid' ? 1e-20 : 0))) * (kind.scale ?? 1)
    })
  }
  return choice
}

/** Returns the scores of experts that a router's logits [E] become. */
export function scoresOf(logits: Float32Array, { scores }: RouterKind): Float64Array {
  if (scores === 'sigmoid') return Float64Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)))
  const highest = logits.reduce((max, logit) => Math.max(max, logit), Number.NEGATIVE_INFINITY)
  const shares = Float64Array.from(logits, (logit) => Math.exp(logit - highest))
  const sum = shares.reduce((total, share) => total + share, 0)
  return shares.map((share) => share / sum)
}

/** Excludes scores outside the best groups. Groups are compared by the sum of their two largest scores. */
function insideGroups(scores: Float64Array, { count, open }: NonNullable<RouterKind['groups']>): Float64Array {
  const size = scores.length / count
  const ofGroup = (group: number) => scores.subarray(group * size, (group + 1) * size)
  const sums = Float64Array.from({ length: count }, (_, group) => {
    const scoresInGroup = ofGroup(group)
    return largest(scoresInGroup, 2).reduce((sum, expert) => sum + (scoresInGroup[expert] as number), 0)
  })
  const best = new Set(largest(sums, open))
  return scores.map((score, expert) => (best.has(Math.floor(expert / size)) ? score : Number.NEGATIVE_INFINITY))
}

/** The indices of the `count` largest values, largest first. Of equal values, the lower index comes first. */
function largest(values: Float64Array, count: number): number[] {
  const best: number[] = []
  for (let index = 0; index < values.length; index++) {
    let rank = best.length
    while (rank > 0 && (values[index] as number) > (values[best[rank - 1] as number] as number)) rank--
    if (rank < count) best.splice(rank, 0, index)
    if (best.length > count) best.pop()
  }
  return best
}
