import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core'
import { fusedName } from '../../setup/places.mjs'
import { trustedAddon } from '../../setup/trusted.mjs'

/** Operations of `fused.cc`: one pass over memory where the runtime's own operations need many. */
export interface FusedOperations {
  /**
   * Rotary embedding and causal attention at once, without a matrix of scores: projected queries (scaled), keys and values
   * [B*T, (H + 2K) d] and tables [T, size / 2] to [B*T, H d]. `window` is how many positions a query sees, 0 for all.
   */
  attention(
    projected: Tensor2D,
    cosine: Tensor2D,
    sine: Tensor2D,
    shape: { heads: number; keyValueHeads: number; window: number },
  ): Tensor2D
  /** (x - mean if `centred`) / sqrt(sum of squares / divisor + epsilon) * weight + bias, row by row: x [N, D]. */
  normalize(x: Tensor2D, weight: Tensor | undefined, bias: Tensor | undefined, norm: FusedNorm): Tensor2D
  /** silu(gate) * up: [N, I] each. */
  gate(gate: Tensor2D, up: Tensor2D): Tensor2D
  /** The largest logit of each row and the sum of exponents relative to it: [N, V] to [N, 2]. */
  exponents(logits: Tensor2D): Tensor2D
  /** Sums of |x| or of x squared over the rows of each sample: [B * tokens, I] to [B, I]. */
  columnSums(x: Tensor2D, tokens: number, squared: boolean): Tensor2D
}

export interface FusedNorm {
  readonly epsilon: number
  readonly divisor: number
  readonly centred: boolean
}

/** What of tfjs-node's backend runs an operation by its name. */
export interface OperationRunner {
  readonly binding: { readonly TF_ATTR_INT: number; readonly TF_ATTR_FLOAT: number }
  executeSingleOutput(name: string, attributes: object[], inputs: Tensor[]): Tensor
}

/** Loads the operations that set-up compiled for this processor; undefined where it could not. */
export function loadFused(runtimeFolder: string, runner: OperationRunner): FusedOperations | undefined {
  const path = trustedAddon(runtimeFolder, fusedName())
  if (!path) return undefined
  process.dlopen({ exports: {} }, path)
  const { TF_ATTR_INT, TF_ATTR_FLOAT } = runner.binding
  const ints = (values: Record<string, number | boolean>) =>
    Object.entries(values).map(([name, value]) => ({ name, type: TF_ATTR_INT, value: Number(value) }))
  const floats = (values: Record<string, number>) => Object.entries(values).map(([name, value]) => ({ name, type: TF_ATTR_FLOAT, value }))
  const run = (name: string, attributes: object[], inputs: Tensor[]) => runner.executeSingleOutput(name, attributes, inputs) as Tensor2D
  return {
    attention: (projected, cosine, sine, { heads, keyValueHeads, window }) =>
      run('EspalierAttention', ints({ heads, key_value_heads: keyValueHeads, window }), [projected, cosine, sine]),
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      const attributes = [...floats({ epsilon, divisor }), ...ints({ centred, weighted: weight !== undefined, biased: bias !== undefined })]
      // An operation has all its inputs: x stands where there is none, and is not read.
      return run('EspalierNorm', attributes, [x, weight ?? x, bias ?? x])
    },
    gate: (gate, up) => run('EspalierGate', [], [gate, up]),
    exponents: (logits) => run('EspalierExponents', [], [logits]),
    columnSums: (x, tokens, squared) => run('EspalierColumns', ints({ tokens, squared }), [x]),
  }
}
