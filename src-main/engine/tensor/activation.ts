import {
  add,
  erf,
  exp,
  maximum,
  minimum,
  mul,
  relu,
  sigmoid,
  square,
  step,
  sub,
  type Tensor,
  type Tensor2D,
  tanh,
  tidy,
} from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { tidied } from './tidied.ts'

export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu'

const tanhForm = Math.sqrt(2 / Math.PI)

const half = (x: Tensor2D, gate: Tensor2D): Tensor2D => mul(mul(x, 0.5), add(gate, 1))

const functions: Record<Activation, (x: Tensor2D) => Tensor2D> = {
  silu: (x) => mul(x, sigmoid(x)),
  gelu: (x) => half(x, erf(mul(x, Math.SQRT1_2))),
  gelu_tanh: (x) => half(x, tanh(mul(mul(x, tanhForm), add(mul(square(x), 0.044715), 1)))),
  relu: (x) => relu(x),
}

/** Applies the MLP's activation function to x [N, I], element by element. GELU and its tanh form: arXiv 1606.08415. */
export function activate(x: Tensor2D, activation: Activation): Tensor2D {
  return tidy(() => functions[activation](x))
}

const slopes: Record<Activation, (x: Tensor2D) => Tensor2D> = {
  silu: (x) => {
    const gate = sigmoid(x)
    return mul(gate, add(mul(x, sub(1, gate)), 1))
  },
  gelu: (x) => add(mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5), mul(mul(x, exp(mul(square(x), -0.5))), 1 / Math.sqrt(2 * Math.PI))),
  gelu_tanh: (x) => {
    const inner = tanh(mul(mul(x, tanhForm), add(mul(square(x), 0.044715), 1)))
    const bend = mul(mul(x, sub(1, square(inner))), mul(add(mul(square(x), 3 * 0.044715), 1), 0.5 * tanhForm))
    return add(mul(add(inner, 1), 0.5), bend)
  },
  relu: (x) => step(x),
}

/** The derivative of `activate` at x [N, I], element by element. */
function activationSlope(x: Tensor2D, activation: Activation): Tensor2D {
  return tidy(() => slopes[activation](x))
}

/** Returns cap * tanh(x / cap), or x itself if there is no cap. */
export function capValues<T extends Tensor>(x: T, cap: number | undefined): T {
  return cap === undefined ? x : mul(tanh(mul(x, 1 / cap)), cap)
}

/** Computes the neurons of a gated MLP (arXiv 2002.05202): the activation of gate [N, I] times up [N, I]. */
export function gateNeurons(gate: Tensor2D, up: Tensor2D, activation: Activation): Tensor2D {
  const { fused } = activeBackend()
  if (fused?.gate && activation === 'silu') return fused.gate(gate, up)
  return tidy(() => mul(activate(gate, activation), up))
}

/** gpt-oss's limit on the inputs of a neuron (`most`), and the slope of its gate. */
export interface NeuronLimit {
  readonly most: number
  readonly slope: number
}

/**
 * Computes the neurons of a gated MLP with limits: (up + 1) * gate * sigmoid(slope * gate), where gate is limited from above and up on both
 * sides.
 */
export function gateLimited(gate: Tensor2D, up: Tensor2D, { most, slope }: NeuronLimit): Tensor2D {
  return tidy(() => {
    const bounded = minimum(gate, most)
    return mul(add(maximum(minimum(up, most), -most), 1), mul(bounded, sigmoid(mul(bounded, slope))))
  })
}

/** Gradients of a loss with respect to gates and ups, and the neurons themselves: [N, I] each. */
interface NeuronGradients {
  readonly gate?: Tensor2D
  readonly up: Tensor2D
  readonly neurons: Tensor2D
}

/**
 * Computes these, given the gradient with respect to the neurons: the activation of gate times up, or without a gate the activation of up.
 */
export function neuronsBackward(gate: Tensor2D | undefined, up: Tensor2D, activation: Activation, gradient: Tensor2D): NeuronGradients {
  const { fused } = activeBackend()
  if (fused?.neuronsBackward) {
    const [first, second, neurons] = fused.neuronsBackward(gate, up, gradient, activation)
    if (gate) return { gate: first, up: second, neurons }
    second.dispose()
    return { up: first, neurons }
  }
  return tidied(() => {
    const bent = mul<Tensor2D>(gradient, activationSlope(gate ?? up, activation))
    if (!gate) return { up: bent, neurons: activate(up, activation) }
    return {
      gate: mul<Tensor2D>(bent, up),
      up: mul<Tensor2D>(gradient, activate(gate, activation)),
      neurons: gateNeurons(gate, up, activation),
    }
  })
}
