import { sum, type Tensor, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { NativeBf16Ops } from '#engine/backend/bf16-ops.ts'
import type { MlpWeights } from '#engine/model/weights/weights.ts'
import { type Activation, activate, gateNeurons, neuronsBackward } from '#engine/tensor/activation.ts'
import { fusedNorm, type NormWeights, normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import { combine, correlate, matrixFor, type Onto, type Products, project, projectNormed } from '#engine/tensor/products.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { type Gradients, normGradients } from '../part.ts'

/** What the backward pass of an MLP needs of its forward pass. */
export interface KeptMlp {
  /** The input of the part, before its norm: [N, D]. */
  readonly source: Tensor2D
  /** Outputs of the gate projection, [N, I]. */
  readonly gate?: Tensor2D
  /** Outputs of the up projection, [N, I]. */
  readonly up?: Tensor2D
  /** Gates and ups in 16 bits, as the fused backward operation reads them. */
  readonly neurons?: Tensor
}

interface Forward<Kept> {
  readonly output: Tensor2D
  readonly kept: Kept
}

interface Backward {
  /** The gradient of the input of the part, [N, D]. */
  readonly source: Tensor2D
  readonly gradients: Gradients
}

/** Runs an MLP on source [N, D], without the norm on its output. Adds the output to a stream if `onto` is given. */
export function feedForward(
  source: Tensor2D,
  weights: MlpWeights,
  activation: Activation,
  products: Products,
  onto?: Onto,
): Forward<KeptMlp> {
  const { bf16 } = activeBackend()
  if (products === 'bfloat16' && bf16 && onto && isPlain(weights)) return feedFused(source, weights, activation, bf16, onto)
  return tidied(() => {
    const through = (weight: Tensor2D, bias?: Tensor1D) => projectNormed(source, weights.norm, matrixFor(weight, products), bias)
    const up = through(weights.up, weights.upBias)
    const gate = weights.gate && through(weights.gate, weights.gateBias)
    const neurons = gate ? gateNeurons(gate, up, activation) : activate(up, activation)
    return {
      output: project(neurons, matrixFor(weights.down, products), weights.downBias, onto),
      kept: { source: source.clone(), up, ...(gate ? { gate } : {}) },
    }
  })
}

/** Whether one operation can run the MLP in each direction: it needs a norm before it and no biases. */
const isPlain = ({ norm, gateBias, upBias, downBias }: MlpWeights): boolean =>
  norm !== undefined && !norm.bias && !gateBias && !upBias && !downBias

/** Runs `feedForward` in one operation. */
function feedFused(source: Tensor2D, weights: MlpWeights, activation: Activation, bf16: NativeBf16Ops, onto: Onto): Forward<KeptMlp> {
  return tidied(() => {
    const pack = (weight: Tensor2D) => bf16.pack(weight, 1)
    const matrices = { up: pack(weights.up), down: pack(weights.down), gate: weights.gate && pack(weights.gate) }
    const norm = weights.norm && fusedNorm(weights.norm, source)
    const [output, neurons] = bf16.keptMlp(onto.add, source, { ...matrices, activation, norm, scale: onto.scale ?? 1 })
    return { output, kept: { source: source.clone(), neurons } }
  })
}

/** Returns the gradients of `feedFused`, computed in one operation. */
function feedFusedBackward(source: Tensor2D, neurons: Tensor, weights: MlpWeights, activation: Activation, gradient: Tensor2D): Backward {
  return tidied(() => {
    const bf16 = activeBackend().bf16 as NativeBf16Ops
    const own = weights.norm as NormWeights
    const transposed = (weight: Tensor2D) => bf16.pack(weight, 1, true)
    const active = weights.gate ?? weights.up
    const matrices = { down: transposed(weights.down), active: transposed(active), other: weights.gate && transposed(weights.up) }
    const part = { ...matrices, activation, norm: fusedNorm(own, source) }
    const [x, weight, bias, down, byActive, byOther] = bf16.mlpBackward(gradient, source, neurons, part)
    return {
      source: x,
      gradients: {
        down,
        ...(weights.gate ? { gate: byActive, up: byOther } : { up: byActive }),
        ...normGradients('norm', own, { x, weight, bias }),
      },
    }
  })
}

/** Returns the gradients of an MLP, given the gradient of its output, [N, D]. */
export function feedBackward(
  { source, gate, up, neurons: kept }: KeptMlp,
  weights: MlpWeights,
  activation: Activation,
  products: Products,
  gradient: Tensor2D,
): Backward {
  if (kept) return feedFusedBackward(source, kept, weights, activation, gradient)
  return tidied(() => {
    const byNeurons = combine(gradient, weights.down, products)
    const { gate: byGate, up: byUp, neurons } = neuronsBackward(gate, up as Tensor2D, activation, byNeurons)
    const input = weights.norm ? normalize(source, weights.norm) : source
    const throughUp = combine(byUp, weights.up, products)
    const byInput = byGate && weights.gate ? combine(byGate, weights.gate, products, { add: throughUp }) : throughUp
    const front = weights.norm && normalizeBackward(source, weights.norm, byInput)
    const columns = (x: Tensor2D): Tensor1D => sum(x, 0)
    return {
      source: front?.x ?? byInput,
      gradients: {
        down: correlate(gradient, neurons, products),
        up: correlate(byUp, input, products),
        ...(weights.downBias ? { downBias: columns(gradient) } : {}),
        ...(weights.upBias ? { upBias: columns(byUp) } : {}),
        ...(byGate ? { gate: correlate(byGate, input, products) } : {}),
        ...(byGate && weights.gateBias ? { gateBias: columns(byGate) } : {}),
        ...normGradients('norm', weights.norm, front),
      },
    }
  })
}
