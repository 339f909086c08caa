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
import { type DecoderSpec, isConstant, type RouterKind } from '#engine/architectures/spec.ts'
import { type Matrix, project } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/read.ts'
import { neuronsOf } from './neurons.ts'
import { chooseExperts } from './router.ts'
import type { MixtureWeights, MlpWeights } from './weights/weights.ts'

/** What one expert sees of a pass: the tokens that it was chosen for. */
export interface ExpertActivations {
  readonly expert: number
  /** Rows of the part's input, ascending, and what its output for each is multiplied by. */
  readonly rows: Int32Array
  readonly gates: Float32Array
  /** What it reads [n, D], its neurons [n, I], and what it gives [n, D] before its factor; a constant only gives. */
  readonly input?: Tensor2D
  readonly inner?: Tensor2D
  readonly output: Tensor2D
}

/** Tokens on their way through a mixture: the experts that were chosen, and where each token's are among their rows. */
export interface RoutedExperts {
  readonly experts: readonly ExpertActivations[]
  /** [N, k], token by token: the place of its choice in the rows of all experts, one expert's behind the other's. */
  readonly places: Int32Array
  readonly chosen: number
  readonly weights: MixtureWeights<Matrix>
}

/** Runs each expert on the tokens that chose it, so that its weights are read once; experts that nothing chose are not touched. */
export function routeTokens(input: Tensor2D, weights: MixtureWeights<Matrix>, spec: DecoderSpec): RoutedExperts {
  const kind = spec.router as RouterKind
  const { experts } = weights
  const correction = weights.correction && (weights.correction.dataSync() as Float32Array)
  const logits = valuesOf(() => project(input, weights.router, weights.routerBias))
  const { numbers, gates } = chooseExperts(logits, experts.length, kind, correction)
  const slots = Array.from({ length: experts.length }, (): number[] => [])
  for (const [slot, expert] of numbers.entries()) slots[expert]?.push(slot)
  const places = new Int32Array(numbers.length)
  let place = 0
  const run = [...slots.entries()].flatMap(([expert, own]): ExpertActivations[] => {
    if (own.length === 0) return []
    for (const slot of own) places[slot] = place++
    const rows = Int32Array.from(own, (slot) => Math.floor(slot / kind.chosen))
    const factors = Float32Array.from(own, (slot) => gates[slot] as number)
    return [{ expert, rows, gates: factors, ...runExpert(input, rows, experts[expert] as (typeof experts)[number], spec) }]
  })
  return { experts: run, places, chosen: kind.chosen, weights }
}

function runExpert(
  input: Tensor2D,
  rows: Int32Array,
  expert: MixtureWeights<Matrix>['experts'][number],
  spec: DecoderSpec,
): Pick<ExpertActivations, 'input' | 'inner' | 'output'> {
  if (isConstant(expert)) return { output: tile(reshape<Rank.R2>(expert.constant, [1, -1]), [rows.length, 1]) }
  const own: Tensor2D = rows.length === input.shape[0] ? input : gather(input, tensor1d(rows, 'int32'))
  const inner = neuronsOf(own, expert, spec)
  return { input: own, inner, output: project(inner, expert.down, expert.downBias) }
}

/** The output of a mixture [N, D]: what a token's experts give, each times its factor, and the shared expert's. */
export function combineExperts(input: Tensor2D, { experts, places, chosen, weights }: RoutedExperts, spec: DecoderSpec): Tensor2D {
  const scaled = experts.map(({ output, gates }) => mul<Tensor2D>(output, tensor2d(gates, [gates.length, 1])))
  const all: Tensor2D = scaled.length === 1 ? (scaled[0] as Tensor2D) : concat(scaled, 0)
  const tokens = places.length / chosen
  const placesOf = (slot: number): Tensor1D =>
    tensor1d(Int32Array.from({ length: tokens }, (_, row) => places[row * chosen + slot] as number))
  let output: Tensor2D = gather(all, placesOf(0))
  for (let slot = 1; slot < chosen; slot++) output = add(output, gather(all, placesOf(slot)))
  return weights.shared ? add(output, sharedOutput(input, weights.shared, weights.sharedGate, spec)) : output
}

function sharedOutput(input: Tensor2D, shared: MlpWeights<Matrix>, gate: Tensor2D | undefined, spec: DecoderSpec): Tensor2D {
  const output = project(neuronsOf(input, shared, spec), shared.down, shared.downBias)
  return gate ? mul(output, sigmoid(project(input, gate))) : output
}
