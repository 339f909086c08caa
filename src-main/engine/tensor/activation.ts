import { erf, sigmoid, type Tensor2D, tanh, tidy } from '@tensorflow/tfjs-core'
import type { Activation } from '#engine/model/spec.ts'

const functions: Record<Activation, (x: Tensor2D) => Tensor2D> = {
  silu: (x) => x.mul(sigmoid(x)),
  gelu: (x) => x.mul(erf(x.mul(Math.SQRT1_2)).add(1).mul(0.5)),
  gelu_tanh: (x) => x.mul(tanh(x.mul(x.square().mul(0.044715).add(1)).mul(Math.sqrt(2 / Math.PI))).add(1).mul(0.5)),
  relu: (x) => x.relu(),
}

/** The MLP's nonlinearity on x [N, I], element by element. GELU and its tanh form: arXiv 1606.08415. */
export function activate(x: Tensor2D, activation: Activation): Tensor2D {
  return tidy(() => functions[activation](x))
}
