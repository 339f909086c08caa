import { add, sum, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import type { MlpWeights } from '#engine/model/weights/weights.ts'
import { type Activation, activate, gateNeurons, neuronsBackward } from '#engine/tensor/activation.ts'
import { normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import { combine, correlate, matrixFor, type Products, project } from '#engine/tensor/products.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { type Gradients, normGradients } from './gradients.ts'

/** What the backward pass of an MLP needs of its forward pass, [N, D] and [N, I]. */
export interface KeptMlp {
  /** What the norm in front reads; without a norm it is `input`. */
  readonly source: Tensor2D
  readonly input: Tensor2D
  readonly gate?: Tensor2D
  readonly up: Tensor2D
}

interface Forward<Kept> {
  readonly output: Tensor2D
  readonly kept: Kept
}

interface Backward {
  /** By what the part reads, [N, D]. */
  readonly source: Tensor2D
  readonly gradients: Gradients
}

/** An MLP on source [N, D], without the norm on its output. */
export function feedForward(source: Tensor2D, weights: MlpWeights, activation: Activation, products: Products): Forward<KeptMlp> {
  return tidied(() => {
    const through = (x: Tensor2D, weight: Tensor2D, bias?: Tensor1D) => project(x, matrixFor(weight, products), bias)
    const input = weights.norm ? normalize(source, weights.norm) : source.clone()
    const up = through(input, weights.up, weights.upBias)
    const gate = weights.gate && through(input, weights.gate, weights.gateBias)
    const neurons = gate ? gateNeurons(gate, up, activation) : activate(up, activation)
    return {
      output: through(neurons, weights.down, weights.downBias),
      kept: { source: source.clone(), input, up, ...(gate ? { gate } : {}) },
    }
  })
}

/** Gradients of an MLP from that by its output, [N, D]. */
export function feedBackward(
  { source, input, gate, up }: KeptMlp,
  weights: MlpWeights,
  activation: Activation,
  products: Products,
  gradient: Tensor2D,
): Backward {
  return tidied(() => {
    const byNeurons = combine(gradient, weights.down, products)
    const { gate: byGate, up: byUp, neurons } = neuronsBackward(gate, up, activation, byNeurons)
    const byInput = combine(byUp, weights.up, products)
    const both = byGate && weights.gate ? add<Tensor2D>(byInput, combine(byGate, weights.gate, products)) : byInput
    const front = weights.norm && normalizeBackward(source, weights.norm, both)
    const columns = (x: Tensor2D): Tensor1D => sum(x, 0)
    return {
      source: front?.x ?? both,
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
