import { sum, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { ProcessorHalves } from '#engine/backend/halves.ts'
import type { MlpWeights } from '#engine/model/weights/weights.ts'
import { type Activation, activate, gateNeurons, neuronsBackward } from '#engine/tensor/activation.ts'
import { fusedNorm, normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import { combine, correlate, matrixFor, type Onto, type Products, project, projectNormed } from '#engine/tensor/products.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { type Gradients, normGradients } from './gradients.ts'

/** What the backward pass of an MLP needs of its forward pass, [N, D] and [N, I]. */
export interface KeptMlp {
  /** What the part reads, in front of its norm. */
  readonly source: Tensor2D
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

/** An MLP on source [N, D], without the norm on its output; added to a stream where one is given. */
export function feedForward(
  source: Tensor2D,
  weights: MlpWeights,
  activation: Activation,
  products: Products,
  onto?: Onto,
): Forward<KeptMlp> {
  const { halves } = activeBackend()
  if (products === 'bfloat16' && halves && onto) return feedFused(source, weights, activation, halves, onto)
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

/** The same in one operation. */
function feedFused(source: Tensor2D, weights: MlpWeights, activation: Activation, halves: ProcessorHalves, onto: Onto): Forward<KeptMlp> {
  return tidied(() => {
    const { norm, gateBias, upBias, downBias } = weights
    const pack = (weight: Tensor2D) => halves.pack(weight, false)
    const matrices = { up: pack(weights.up), down: pack(weights.down), gate: weights.gate && pack(weights.gate) }
    const part = { ...matrices, gateBias, upBias, downBias, activation, norm: norm && fusedNorm(norm, source), scale: onto.scale ?? 1 }
    const [output, up, gate] = halves.keptMlp(onto.add, source, part)
    return { output, kept: { source: source.clone(), up, ...(weights.gate ? { gate } : {}) } }
  })
}

/** Gradients of an MLP from that by its output, [N, D]. */
export function feedBackward(
  { source, gate, up }: KeptMlp,
  weights: MlpWeights,
  activation: Activation,
  products: Products,
  gradient: Tensor2D,
): Backward {
  return tidied(() => {
    const byNeurons = combine(gradient, weights.down, products)
    const { gate: byGate, up: byUp, neurons } = neuronsBackward(gate, up, activation, byNeurons)
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
