import { concat, slice, type Tensor1D, type Tensor2D, tensor1d } from '@tensorflow/tfjs-core'
import type { Matrix, Products } from '#engine/tensor/products.ts'
import type { Rotary } from '#engine/tensor/rotary.ts'
import { type RotaryTables, rotaryTables } from '#engine/tensor/rotary.ts'
import type { Memory } from './cache.ts'
import { advance, type CallContext, disposeResidual, observePart, type PartActivations, type Residual, runPart } from './decoder.ts'
import { runFusedPart } from './fused-part.ts'
import { HalfParts } from './half-parts.ts'
import type { ModelView } from './view.ts'
import { disposePart, type Part, type PartWeights } from './weights.ts'

/** Samples on their way through the parts: B of T tokens each, [B*T, D]. */
export interface Stream {
  readonly batch: number
  readonly tokens: number
  residual: Residual
}

/** What may happen while streams pass a part. */
export interface PassVisitor<S extends Stream> {
  /** Other weights for this pass, made of tensors of their own; disposed of behind it. */
  replace?(weights: PartWeights): PartWeights
  /** Sees what the part reads and writes, stream by stream, while it lives. */
  observe?(stream: S, seen: PartActivations): void
  /** Streams of equal length share products up to this many rows; without it each has its own. Observed streams are never joined. */
  readonly joinUpTo?: number
  /** What token mixers keep of the positions before the tokens, by block; what these add is put there. */
  readonly past?: { readonly length: number; readonly cache: Map<number, Memory> }
}

/** Lets timers and messages through: cancelling and heartbeats depend on it. */
export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * The one loop over weights: a part is leased once, every stream runs it and stands behind it, the part is given back.
 * Forward passes, variants, rotations and sessions say which streams pass which part, and look on; `products` says how parts multiply.
 */
export class Walk {
  readonly #view: ModelView
  readonly #halves: HalfParts | undefined
  readonly #rotaries: readonly Rotary[]
  readonly #tables = new Map<string, ReadonlyMap<Rotary, RotaryTables>>()
  readonly #places = new Map<string, Tensor1D>()

  constructor(view: ModelView, products: Products = 'float32') {
    this.#view = view
    this.#halves = products === 'float32' ? undefined : new HalfParts(view, products)
    this.#rotaries = view.spec.blocks.map((_, block) => view.spec.rotary(block))
  }

  /** Whether a pass packs the weights of its part, so that it is better made by many streams together. */
  get packsWeights(): boolean {
    return this.#halves !== undefined && !this.#halves.keeps
  }

  /** The stream of `batch` samples in front of the first part; ids [B*T]. */
  async embed(ids: Int32Array, batch: number): Promise<Stream> {
    const x = await this.#view.model.vocabulary.embed(ids)
    return { batch, tokens: ids.length / batch, residual: { x, source: x.clone() } }
  }

  /** Takes streams past a part. */
  async pass<S extends Stream>(part: Part, streams: readonly S[], visitor: PassVisitor<S> = {}): Promise<void> {
    await this.#withWeights(part, visitor, async (weights) => {
      for (const [index, joined] of joinable(streams, visitor).entries()) {
        if (index > 0) await breathe()
        this.#run(part, weights, joined, visitor)
      }
    })
  }

  /** Shows what a part's last projection reads, and stops there: the streams stay in front of the part. */
  async look<S extends Stream>(part: Part, streams: readonly S[], visitor: PassVisitor<S>): Promise<void> {
    await this.#withWeights(part, visitor, async (weights) => {
      for (const [index, stream] of streams.entries()) {
        if (index > 0) await breathe()
        observePart(part, weights, stream.residual, this.#callFor([stream], visitor))
      }
    })
  }

  async #withWeights<S extends Stream>(
    part: Part,
    { replace }: PassVisitor<S>,
    use: (weights: PartWeights<Matrix>) => Promise<void>,
  ): Promise<void> {
    if (this.#halves && !replace) return this.#withHalves(part, this.#halves, use)
    const leased = await this.#view.lease(part, this.#view.following(part))
    let own: PartWeights | undefined
    try {
      own = replace?.(leased)
      if (!own) await use(leased)
    } finally {
      this.#view.release(part, leased)
    }
    if (!own) return
    try {
      await use(own)
    } finally {
      disposePart(own)
    }
  }

  async #withHalves(part: Part, halves: HalfParts, use: (weights: PartWeights<Matrix>) => Promise<void>): Promise<void> {
    const leased = await halves.lease(part, this.#view.following(part))
    try {
      await use(leased)
    } finally {
      halves.release(part, leased)
    }
  }

  #run<S extends Stream>(part: Part, weights: PartWeights<Matrix>, streams: readonly S[], visitor: PassVisitor<S>): void {
    const { spec } = this.#view
    const before = joinResiduals(streams.map(({ residual }) => residual))
    const call = this.#callFor(streams, visitor)
    const after = runFusedPart(part, weights, before, call) ?? runPart(part, weights, before, call)
    const [only] = streams
    if (only && streams.length === 1) {
      only.residual = advance(part, only.residual, after, spec)
      return
    }
    disposeResidual(before)
    let first = 0
    for (const stream of streams) {
      const rows = stream.batch * stream.tokens
      const own: Tensor2D = slice(after, [first, 0], [rows, -1])
      stream.residual = advance(part, stream.residual, own, spec)
      first += rows
    }
    after.dispose()
  }

  #callFor<S extends Stream>(streams: readonly S[], { observe, past }: PassVisitor<S>): CallContext {
    const [first] = streams as readonly [S]
    const batch = streams.reduce((sum, one) => sum + one.batch, 0)
    return {
      spec: this.#view.spec,
      batch,
      tokens: first.tokens,
      rotary: this.#tablesFor(first.tokens, past?.length ?? 0),
      ...(past ? { past: { ...past, place: this.#placeOf(past.length, batch) } } : {}),
      ...(observe ? { observe: (seen) => observe(first, seen) } : {}),
    }
  }

  #placeOf(past: number, batch: number): Tensor1D {
    const key = `${past}+${batch}`
    const place = this.#places.get(key) ?? tensor1d([past, batch], 'int32')
    this.#places.set(key, place)
    return place
  }

  /** Rotary tables of a length by block, made once for a walk. */
  #tablesFor(tokens: number, past: number): (block: number) => RotaryTables {
    const key = `${past}+${tokens}`
    const made = this.#tables.get(key)
    const tables = made ?? new Map([...new Set(this.#rotaries)].map((rotary) => [rotary, rotaryTables(rotary, past, tokens)]))
    this.#tables.set(key, tables)
    return (block) => tables.get(this.#rotaries[block] as Rotary) as RotaryTables
  }

  dispose(): void {
    this.#halves?.dispose()
    for (const tables of this.#tables.values()) {
      for (const { cosine, sine } of tables.values()) {
        cosine.dispose()
        sine.dispose()
      }
    }
    this.#tables.clear()
    for (const place of this.#places.values()) place.dispose()
    this.#places.clear()
  }
}

/** Neighbours that may run as one larger batch, in order. */
function joinable<S extends Stream>(streams: readonly S[], { joinUpTo = 0, observe }: PassVisitor<S>): S[][] {
  const groups: S[][] = []
  let rows = 0
  for (const stream of streams) {
    const own = stream.batch * stream.tokens
    const group = groups.at(-1)
    if (group && !observe && group[0]?.tokens === stream.tokens && rows + own <= joinUpTo) {
      group.push(stream)
      rows += own
    } else {
      groups.push([stream])
      rows = own
    }
  }
  return groups
}

/** Streams side by side. A single one is passed on as it is. */
function joinResiduals(residuals: readonly Residual[]): Residual {
  const [only] = residuals
  if (only && residuals.length === 1) return only
  return {
    x: concat(
      residuals.map(({ x }) => x),
      0,
    ),
    source: concat(
      residuals.map(({ source }) => source),
      0,
    ),
  }
}
