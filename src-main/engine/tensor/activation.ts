import { add, erf, exp, mul, relu, sigmoid, square, step, sub, type Tensor, type Tensor2D, tanh, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu'

const tanhForm = Math.sqrt(2 / Math.PI)

const half = (x: Tensor2D, gate: Tensor2D): Tensor2D => mul(mul(x, 0.5), add(gate, 1))

const functions: Record<Activation, (x: Tensor2D) => Tensor2D> = {
  silu: (x) => mul(x, sigmoid(x)),
  gelu: (x) => half(x, erf(mul(x, Math.SQRT1_2))),
  gelu_tanh: (x) => half(x, tanh(mul(mul(x, tanhForm), add(mul(square(x), 0.044715), 1)))),
  relu: (x) => relu(x),
}

/** The MLP's nonlinearity on x [N, I], element by element. GELU and its tanh form: arXiv 1606.08415. */
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
export function activationSlope(x: Tensor2D, activation: Activation): Tensor2D {
  return tidy(() => slopes[activation](x))
}

/** cap * tanh(x / cap), or x where there is no cap. */
export function capValues<T extends Tensor>(x: T, cap: number | undefined): T {
  return cap === undefined ? x : mul(tanh(mul(x, 1 / cap)), cap)
}

/** Neurons of a gated MLP (arXiv 2002.05202): the activation of gate [N, I], times up [N, I]. */
export function gateNeurons(gate: Tensor2D, up: Tensor2D, activation: Activation): Tensor2D {
  const { fused } = activeBackend()
  if (fused && activation === 'silu') return fused.gate(gate, up)
  return tidy(() => mul(activate(gate, activation), up))
}
