import { add, concat, dispose, keep, mul, slice, sub, type Tensor2D, type Tensor4D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'

/** The frequencies at which pairs of dimensions rotate, in radians per position, and a factor on cosine and sine. */
export interface RotaryFrequencies {
  readonly inverse: Float64Array
  readonly scale: number
}

export interface Rotary {
  /** Rotated dimensions of each head, at most d and even. */
  readonly size: number
  /** The frequencies for a call with positions below `length`. */
  frequencies(length: number): RotaryFrequencies
}

export interface RotaryTables {
  /** [T, size / 2] each. */
  readonly cosine: Tensor2D
  readonly sine: Tensor2D
  readonly size: number
}

/** Computes tables for positions [past, past + tokens). */
export function rotaryTables(rotary: Rotary, past: number, tokens: number): RotaryTables {
  const { inverse, scale } = rotary.frequencies(past + tokens)
  const half = inverse.length
  const cosine = new Float32Array(tokens * half)
  const sine = new Float32Array(tokens * half)
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround((past + token) * Math.fround(inverse[i] ?? outside(inverse, i)))
      cosine[token * half + i] = Math.cos(angle) * scale
      sine[token * half + i] = Math.sin(angle) * scale
    }
  }
  return { cosine: tensor2d(cosine, [tokens, half]), sine: tensor2d(sine, [tokens, half]), size: rotary.size }
}

/** Tables for positions from 0 on, made once for each rotary and number of tokens. They outlive the `tidy` in which they are made. */
export class KeptTables {
  readonly #tables = new Map<Rotary, Map<number, RotaryTables>>()

  of(rotary: Rotary, tokens: number): RotaryTables {
    const tables = this.#tables.get(rotary) ?? new Map<number, RotaryTables>()
    this.#tables.set(rotary, tables)
    const own = tables.get(tokens) ?? kept(rotaryTables(rotary, 0, tokens))
    tables.set(tokens, own)
    return own
  }

  dispose(): void {
    for (const tables of this.#tables.values()) for (const { cosine, sine } of tables.values()) dispose([cosine, sine])
    this.#tables.clear()
  }
}

const kept = ({ cosine, sine, size }: RotaryTables): RotaryTables => ({ cosine: keep(cosine), sine: keep(sine), size })

/** Stacks tables, and disposes of the originals unless there is only one, which is returned unchanged. */
export function joinTables(tables: readonly RotaryTables[]): RotaryTables {
  const [first] = tables as readonly [RotaryTables]
  if (tables.length === 1) return first
  const join = (each: (table: RotaryTables) => Tensor2D): Tensor2D => {
    const parts = tables.map(each)
    const joined = concat(parts, 0)
    for (const part of parts) part.dispose()
    return joined
  }
  return { cosine: join(({ cosine }) => cosine), sine: join(({ sine }) => sine), size: first.size }
}

/**
 * Rotates the first `size` dimensions of x [B, heads, T, d] by their position (arXiv 2104.09864, Eq. 34, with halves paired as in Llama).
 */
export function rotate(x: Tensor4D, { cosine, sine, size }: RotaryTables): Tensor4D {
  return tidy(() => {
    const half = size / 2
    const part = (start: number, length: number): Tensor4D => slice(x, [0, 0, 0, start], [-1, -1, -1, length])
    const [first, second] = [part(0, half), part(half, half)]
    const rotated = [sub<Tensor4D>(mul(first, cosine), mul(second, sine)), add<Tensor4D>(mul(second, cosine), mul(first, sine))]
    const rest = x.shape[3] - size
    return concat(rest > 0 ? [...rotated, part(size, rest)] : rotated, 3)
  })
}
