import { add, erf, mul, relu, sigmoid, square, type Tensor, type Tensor2D, tanh, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu'

const half = (x: Tensor2D, gate: Tensor2D): Tensor2D => mul(mul(x, 0.5), add(gate, 1))

const functions: Record<Activation, (x: Tensor2D) => Tensor2D> = {
  silu: (x) => mul(x, sigmoid(x)),
  gelu: (x) => half(x, erf(mul(x, Math.SQRT1_2))),
  gelu_tanh: (x) => half(x, tanh(mul(mul(x, Math.sqrt(2 / Math.PI)), add(mul(square(x), 0.044715), 1)))),
  relu: (x) => relu(x),
}

/** The MLP's nonlinearity on x [N, I], element by element. GELU and its tanh form: arXiv 1606.08415. */
export function activate(x: Tensor2D, activation: Activation): Tensor2D {
  return tidy(() => functions[activation](x))
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
