import type { Tensor, Tensor1D, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core'
import { fusedName } from '../../setup/places.mjs'
import { trustedAddon } from '../../setup/trusted.mjs'
import { type AttentionShape, attentionInts, type FusedNorm, type HalfOperations, halfOperations } from './halves.ts'

/** Operations of `fused.cc`: one pass over memory where the runtime's own operations need many. */
export interface FusedOperations {
  /** Products of 16-bit operands, where the processor has units for them. */
  readonly halves?: HalfOperations
  /**
   * Rotary embedding and causal attention at once, without a matrix of scores: projected queries (scaled), keys and values
   * [B*T, (H + 2K) d] and tables [T, size / 2] to [B*T, H d]. `window` is how many positions a query sees, 0 for all.
   */
  attention(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape): Tensor2D
  /** x [N, D] through a stored weight [R, D] (and bias [R]): [N, R]. For few rows, where reading the weight is what takes time. */
  projectFew(x: Tensor2D, weight: Tensor2D, bias: Tensor1D | undefined): Tensor2D
  /**
   * The same as `attention`, of the tokens that follow those in a cache: B samples of T tokens. Their keys and values are written into
   * the cache, in place.
   */
  attendAfter(projected: Tensor2D, cached: CachedPositions): Tensor2D
  /** A whole attention on few rows of the stream x [N, D], from its norm to the sum with x: [N, D]. */
  attentionPart(x: Tensor2D, part: FusedAttentionPart, cached: CachedPositions): Tensor2D
  /** A whole MLP on few rows: x [N, D] with what it makes of source [N, D] added. */
  mlpPart(x: Tensor2D, source: Tensor2D, part: FusedMlpPart): Tensor2D
  /** (x - mean if `centred`) / sqrt(sum of squares / divisor + epsilon) * weight + bias, row by row: x [N, D]. */
  normalize(x: Tensor2D, weight: Tensor | undefined, bias: Tensor | undefined, norm: FusedNorm): Tensor2D
  /** silu(gate) * up: [N, I] each. */
  gate(gate: Tensor2D, up: Tensor2D): Tensor2D
  /** The largest logit of each row and the sum of exponents relative to it: [N, V] to [N, 2]. */
  exponents(logits: Tensor2D): Tensor2D
  /**
   * Logits of a dense model and of another one, [N, C] each, to [N, 5 + 2 count]: of each the largest and the sum of exponents relative to
   * it, the mean of their difference under the dense distribution, the other's largest logits and their columns.
   */
  compareLogits(dense: Tensor2D, own: Tensor2D, count: number): Tensor2D
  /** |a - b| / |b| and the cosine of each pair of rows: [N, D] each to [N, 2]. */
  distance(a: Tensor2D, b: Tensor2D): Tensor2D
  /** Sums of |x| or of x squared over the rows of each sample: [B * tokens, I] to [B, I]. */
  columnSums(x: Tensor2D, tokens: number, squared: boolean): Tensor2D
}

/** Tokens that follow others, and the cache that they are written into. */
export interface CachedPositions {
  readonly heads: number
  readonly keyValueHeads: number
  /** How many positions a query sees, 0 for all. */
  readonly window: number
  /** Rotary tables of the tokens, [T, size / 2] each. */
  readonly cosine: Tensor2D
  readonly sine: Tensor2D
  /** How many positions come before the tokens, and how many samples there are: two whole numbers. */
  readonly place: Tensor1D
  /** [B*K, capacity, d] each. */
  readonly key: Tensor3D
  readonly value: Tensor3D
}

/** The norm in front of a part, and what the part's output is multiplied by before it is added. */
interface FusedPart {
  readonly norm: FusedNorm & { readonly weight?: Tensor | undefined; readonly bias?: Tensor | undefined }
  readonly scale: number
}

export interface FusedAttentionPart extends FusedPart {
  readonly queryKeyValue: Tensor2D
  readonly queryKeyValueBias?: Tensor1D
  readonly output: Tensor2D
  readonly outputBias?: Tensor1D
}

/** Activations by the number that the operation knows them by. */
export const activations = { silu: 0, gelu: 1, gelu_tanh: 2, relu: 3 } as const

export interface FusedMlpPart extends FusedPart {
  readonly activation: keyof typeof activations
  readonly gate?: Tensor2D
  readonly gateBias?: Tensor1D
  readonly up: Tensor2D
  readonly upBias?: Tensor1D
  readonly down: Tensor2D
  readonly downBias?: Tensor1D
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
  const shapeOf = ({ heads, keyValueHeads, window }: CachedPositions) => ints({ heads, key_value_heads: keyValueHeads, window })
  const inputsOf = ({ cosine, sine, place, key, value }: CachedPositions) => [cosine, sine, place, key, value]
  const normOf = ({ norm, scale }: FusedPart) => [
    ...floats({ epsilon: norm.epsilon, divisor: norm.divisor, scale }),
    ...ints({ centred: norm.centred, weighted: norm.weight !== undefined, shifted: norm.bias !== undefined }),
  ]
  const halves = halfOperations(
    { run: (name, whole, others, inputs) => run(name, [...ints(whole), ...floats(others)], inputs) },
    bestUnits(run),
  )
  return {
    ...(halves ? { halves } : {}),
    attention: (projected, cosine, sine, shape) =>
      run('EspalierAttention', ints(attentionInts(shape, 0, false)), [projected, cosine, sine]),
    // An operation has all its inputs: something stands where there is none, and is not read.
    projectFew: (x, weight, bias) => run('EspalierFewRows', ints({ biased: bias !== undefined }), [x, weight, bias ?? x]),
    attendAfter: (projected, cached) => run('EspalierCachedAttention', shapeOf(cached), [projected, ...inputsOf(cached)]),
    attentionPart(x, part, cached) {
      const { norm, queryKeyValue, queryKeyValueBias, output, outputBias } = part
      const biases = ints({ biased: queryKeyValueBias !== undefined, output_biased: outputBias !== undefined })
      const weights = [norm.weight ?? x, norm.bias ?? x, queryKeyValue, queryKeyValueBias ?? x, output, outputBias ?? x]
      return run('EspalierAttentionPart', [...normOf(part), ...shapeOf(cached), ...biases], [x, ...weights, ...inputsOf(cached)])
    },
    mlpPart(x, source, part) {
      const { norm, gate, gateBias, up, upBias, down, downBias } = part
      const attributes = ints({
        activation: activations[part.activation],
        gated: gate !== undefined,
        gate_biased: gateBias !== undefined,
        up_biased: upBias !== undefined,
        down_biased: downBias !== undefined,
      })
      const weights = [norm.weight ?? x, norm.bias ?? x, gate ?? up, gateBias ?? x, up, upBias ?? x, down, downBias ?? x]
      return run('EspalierMlpPart', [...normOf(part), ...attributes], [x, source, ...weights])
    },
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      const attributes = [...floats({ epsilon, divisor }), ...ints({ centred, weighted: weight !== undefined, biased: bias !== undefined })]
      return run('EspalierNorm', attributes, [x, weight ?? x, bias ?? x])
    },
    gate: (gate, up) => run('EspalierGate', [], [gate, up]),
    exponents: (logits) => run('EspalierExponents', [], [logits]),
    compareLogits: (dense, own, count) => run('EspalierCompareLogits', ints({ count }), [dense, own]),
    distance: (a, b) => run('EspalierDistance', [], [a, b]),
    columnSums: (x, tokens, squared) => run('EspalierColumns', ints({ tokens, squared }), [x]),
  }
}

/** The number of the best units for 16-bit operands that this processor has, 0 for none. */
function bestUnits(run: (name: string, attributes: object[], inputs: Tensor[]) => Tensor): number {
  const number = run('EspalierUnits', [], [])
  const [found = 0] = number.dataSync()
  number.dispose()
  return found
}
