import {
  add,
  concat,
  dispose,
  exp,
  mul,
  reshape,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type TensorContainer,
  tensor,
  tidy,
} from '@tensorflow/tfjs-core'
import { type DecoderSpec, defined, type NormKind } from '#engine/architectures/spec.ts'
import type { RowFactor } from '#engine/backend/bf16-ops.ts'
import { rawOperations } from '#engine/backend/raw-operations.ts'
import { type FloatDtype, fromFloat32, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { disposeNarrow } from '#engine/tensor/narrow.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import {
  type AttentionWeights,
  type DeltaWeights,
  isAttention,
  type MixtureWeights,
  type MlpWeights,
  type PackedPart,
  type Part,
  type PartWeights,
  type UnreadExpert,
} from './weights.ts'

/** By number, the experts that are not unpacked with their part, because they stay packed or on disk. */
type UnreadExperts = ReadonlyMap<number, UnreadExpert>

/** Unpacks the weights of a part in the form that the decoder uses, in float32. They belong to the caller. */
export function unpackPart(packed: PackedPart, spec: DecoderSpec, part: Part, unread: UnreadExperts = new Map()): PartWeights {
  const unpacking = new Unpacking(packed, spec)
  if (isAttention(part)) return { attention: unpacking.attention() }
  return packed.router ? { mixture: unpacking.mixture(unread) } : { mlp: unpacking.mlp() }
}

/** What rows of a part's weights were multiplied by when they were unpacked. */
export type RowFactors = ReadonlyMap<Tensor2D, RowFactor>

/** The factor on the queries of a part. A power of two is left out, because entries stay exact with it. */
export function rowFactors({ scoreScale, gatedQueries }: DecoderSpec, { attention }: PartWeights): RowFactors {
  if (!attention || attention.queryNorm || attention.delta || Number.isInteger(Math.log2(scoreScale))) return new Map()
  const rows = attention.output.shape[1] * (gatedQueries ? 2 : 1)
  return new Map([[attention.queryKeyValue, { rows, by: scoreScale }]])
}

/** Unpacks one expert, whose tensors have the keys of an MLP. */
export const unpackExpert = (packed: PackedPart, spec: DecoderSpec): MlpWeights => new Unpacking(packed, spec).mlp()

class Unpacking {
  readonly #packed: PackedPart
  readonly #spec: DecoderSpec

  constructor(packed: PackedPart, spec: DecoderSpec) {
    this.#packed = packed
    this.#spec = spec
  }

  mlp(): MlpWeights {
    return { ...this.#projections(''), ...this.#around() }
  }

  mixture(unread: UnreadExperts): MixtureWeights {
    const numbers = Object.keys(this.#packed).flatMap((key) => /^experts\.(\d+)\./.exec(key)?.[1] ?? [])
    const count = 1 + [...unread.keys(), ...numbers.map(Number)].reduce((highest, number) => Math.max(highest, number), -1)
    const experts = Array.from({ length: count }, (_, index) => {
      const constant = this.#unpack<Tensor1D>(`experts.${index}.constant`)
      return constant ? { constant } : (unread.get(index) ?? this.#projections(`experts.${index}.`))
    })
    return {
      router: this.#unpack<Tensor2D>('router') as Tensor2D,
      experts,
      ...this.#around(),
      ...defined({
        routerBias: this.#unpack<Tensor1D>('routerBias'),
        correction: this.#unpack<Tensor1D>('correction'),
        shared: this.#packed['shared.up'] && this.#projections('shared.'),
        sharedGate: this.#unpack<Tensor2D>('sharedGate'),
      }),
    }
  }

  /** The projections and biases of an MLP or an expert. */
  #projections(prefix: string): MlpWeights {
    return {
      up: this.#unpack<Tensor2D>(`${prefix}up`) as Tensor2D,
      down: this.#unpack<Tensor2D>(`${prefix}down`) as Tensor2D,
      ...defined({
        gate: this.#unpack<Tensor2D>(`${prefix}gate`),
        gateBias: this.#unpack<Tensor1D>(`${prefix}gateBias`),
        upBias: this.#unpack<Tensor1D>(`${prefix}upBias`),
        downBias: this.#unpack<Tensor1D>(`${prefix}downBias`),
      }),
    }
  }

  /** The norms around an MLP, and its shortcut for the stream. */
  #around() {
    return defined({
      norm: this.#norm('norm'),
      outputNorm: this.#norm('outputNorm'),
      shortcut: this.#unpack<Tensor2D>('shortcut'),
    })
  }

  attention(): AttentionWeights {
    const { scoreScale, norm, headNorm = norm } = this.#spec
    return {
      queryKeyValue: this.#joined<Tensor2D>('') as Tensor2D,
      output: this.#unpack<Tensor2D>('output') as Tensor2D,
      ...defined({
        norm: this.#norm('norm'),
        queryNorm: this.#norm('queryNorm', headNorm, scoreScale),
        keyNorm: this.#norm('keyNorm', headNorm),
        outputNorm: this.#norm('outputNorm'),
        delta: this.#packed.convolution && this.#delta(headNorm.epsilon),
        sinks: this.#unpack<Tensor1D>('sinks'),
        shortcut: this.#unpack<Tensor2D>('shortcut'),
        queryKeyValueBias: this.#joined<Tensor1D>('Bias'),
        outputBias: this.#unpack<Tensor1D>('outputBias'),
      }),
    }
  }

  #unpack<T extends Tensor>(key: string): T | undefined {
    return this.#packed[key]?.unpack() as T | undefined
  }

  #norm(key: string, kind = this.#spec.norm, scale = 1): NormWeights | undefined {
    const weight = this.#unpack<Tensor1D>(key)
    return weight && normOf(kind, weight, this.#unpack<Tensor1D>(`${key}Bias`), scale)
  }

  /** Joins all projections from the stream, or with the suffix `Bias` their biases, into one tensor. */
  #joined<T extends Tensor>(suffix: string): T | undefined {
    if (!this.#packed[`query${suffix}`]) return undefined
    // A DeltaNet scales its queries itself, after the convolution.
    const scaledLater = this.#packed.queryNorm !== undefined || this.#packed.convolution !== undefined
    return tidy(() => {
      const query = mul(this.#unpack<T>(`query${suffix}`) as T, scaledLater ? 1 : this.#spec.scoreScale)
      const others = ['key', 'value', 'gate', 'strength', 'rate'].map((key) => this.#unpack<T>(`${key}${suffix}`))
      return concat([query, ...others.filter((other) => other !== undefined)], 0) as T
    })
  }

  #delta(epsilon: number): DeltaWeights {
    const made = () => {
      const convolution = this.#unpack('convolution') as Tensor
      return {
        convolution: reshape(convolution, [convolution.shape[0] as number, -1]),
        decayRate: decayRateOf(this.#unpack<Tensor1D>('decay') as Tensor1D),
        decayBias: this.#unpack<Tensor1D>('rateBias') as Tensor1D,
        readNorm: { kind: 'rms', epsilon, weight: this.#unpack<Tensor1D>('readNorm') as Tensor1D },
      }
    }
    return tidy(made as never) as unknown as DeltaWeights
  }
}

/** Makes a norm from its stored weights, which it takes over. The norm's result is multiplied by `scale`. */
export function normOf({ offset, ...kind }: NormKind, weight: Tensor1D, bias: Tensor1D | undefined, scale = 1): NormWeights {
  const scaled = (stored: Tensor1D, shift: number): Tensor1D => {
    if (shift === 0 && scale === 1) return stored
    const changed = tidy(() => mul<Tensor1D>(add(stored, shift), scale))
    stored.dispose()
    return changed
  }
  return { ...kind, weight: scaled(weight, offset ?? 0), ...(bias ? { bias: scaled(bias, 0) } : {}) }
}

/** Disposes of every tensor of a part, and of smaller copies of its weights. */
export function disposePart(weights: PartWeights<Matrix>): void {
  disposeNarrow(weights)
  dispose(weights as unknown as TensorContainer)
}

const names = { F16: 'float16', BF16: 'bfloat16' } as const

/** Rounds values to a dtype, to nearest with ties to even, and converts them back to float32. Returns a new tensor. */
export function roundTo<T extends Tensor>(x: T, dtype: FloatDtype): T {
  if (dtype === 'F32') return x.clone() as T
  const raw = rawOperations()
  if (!raw) return tidy(() => tensor(toFloat32(fromFloat32(x.dataSync() as Float32Array, dtype), dtype), x.shape) as T)
  const narrow = raw.cast(raw.of(x), 'float32', names[dtype])
  const rounded = raw.tensor(raw.cast(narrow, names[dtype], 'float32'), x.shape) as T
  raw.delete(narrow)
  return rounded
}

/** Computes the decay rate -e^A of each head from its stored logarithm A. */
export const decayRateOf = (logarithm: Tensor1D): Tensor1D => mul(exp<Tensor1D>(logarithm), -1)
