import { concat, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { columnSums } from '#engine/tensor/column-sums.ts'
import type { Matrix, Products } from '#engine/tensor/products.ts'
import type { Rotary } from '#engine/tensor/rotary.ts'
import { type RotaryTables, rotaryTables } from '#engine/tensor/rotary.ts'
import type { Past } from './cache.ts'
import {
  advance,
  type CallContext,
  completePart,
  disposeResidual,
  type NeuronSums,
  observePart,
  type PartActivations,
  type Residual,
  runPart,
} from './decoder.ts'
import { passExperts, readsExperts } from './experts/pass-experts.ts'
import { runHalfPart } from './half-part.ts'
import { HalfParts, hasHalves } from './half-parts.ts'
import type { ModelView } from './views/view.ts'
import { disposePart } from './weights/unpack.ts'
import { isAttention, type MixtureWeights, type Part, type PartWeights } from './weights/weights.ts'

/** Samples on their way through the parts: B samples of T tokens each, [B*T, D]. */
export interface Stream {
  readonly batch: number
  readonly tokens: number
  residual: Residual
}

/** What may happen while streams pass a part. */
interface PassVisitor<S extends Stream> {
  /** Other weights for this pass, in their own tensors, which are disposed of after it. */
  replace?(weights: PartWeights): PartWeights | Promise<PartWeights>
  /** Receives what the part reads and writes, stream by stream, valid during the call. */
  observe?(stream: S, seen: PartActivations): void
  /** Receives sums of the neurons of MLPs, stream by stream, valid during the call. */
  sumNeurons?(stream: S, sums: NeuronSums): void
  /** Streams of equal length share products up to this many rows. Without it, each has its own. Observed streams are never joined. */
  readonly joinUpTo?: number
  /** For a mixture that is only observed: which experts run. */
  readonly only?: ((expert: number) => boolean) | undefined
  /** Can end the pass between two streams, or between two experts that are read one by one. */
  readonly signal?: AbortSignal | undefined
  /** The places in sequences of the one stream's rows. New keys, values and memories are stored there. */
  readonly past?: Past
}

/** Handles timers and messages. Cancelling and heartbeats depend on it. */
export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * The one loop over weights: it leases a part, takes every stream through it, and releases it. Forward passes, variants, rotations and
 * sessions decide which streams pass which part, and observe; `products` says how parts multiply.
 */
export class Walk {
  readonly products: Products
  readonly #view: ModelView
  readonly #halves: HalfParts | undefined
  readonly #rotaries: readonly Rotary[]
  readonly #tables = new Map<number, ReadonlyMap<Rotary, RotaryTables>>()

  /**
   * With `keepsPacked`, weights are packed once and stay packed, for walks of few rows. Models that take no 16-bit operands are computed in
   * float32.
   */
  constructor(view: ModelView, products: Products = 'float32', { keepsPacked = false } = {}) {
    this.products = productsOf(view, products)
    this.#view = view
    this.#halves = this.products === 'float32' ? undefined : new HalfParts(view, this.products, keepsPacked)
    this.#rotaries = view.spec.blocks.map((_, block) => view.spec.rotary(block))
  }

  /** Whether a pass packs the weights of its part, so that several streams should pass together. */
  get packsWeights(): boolean {
    return this.#halves !== undefined
  }

  /** The stream of `batch` samples before the first part; ids [B*T]. */
  async embed(ids: Int32Array, batch: number): Promise<Stream> {
    const x = await this.#view.model.vocabulary.embed(ids)
    return { batch, tokens: ids.length / batch, residual: { x, source: x.clone() } }
  }

  /** Takes streams through a part. */
  async pass<S extends Stream>(part: Part, streams: readonly S[], visitor: PassVisitor<S> = {}): Promise<void> {
    await this.#withWeights(part, visitor, async (weights) => {
      const groups = joinable(streams, visitor)
      if (readsExperts(weights)) return this.#passExperts(part, weights.mixture as MixtureWeights<Matrix>, groups, visitor)
      await oneByOne(groups, visitor, (joined) => this.#run(part, weights, joined, visitor))
    })
  }

  /** Shows the input of a part's last projection, and stops there: the streams stay before the part. */
  async look<S extends Stream>(part: Part, streams: readonly S[], visitor: PassVisitor<S>): Promise<void> {
    await this.#withWeights(part, visitor, async (weights) => {
      if (readsExperts(weights)) {
        const passing = streams.map((stream) => ({ residual: stream.residual, call: this.#callFor([stream], visitor) }))
        await passExperts(weights.mixture as MixtureWeights<Matrix>, passing, { signal: visitor.signal, looks: true })
        return
      }
      await oneByOne(streams, visitor, (stream) =>
        observePart(part, weights, stream.residual, observingSums(part, this.#callFor([stream], visitor))),
      )
    })
  }

  /** Takes streams past a part from the inputs of its last projection, one for each, which `look` showed. */
  async complete<S extends Stream>(part: Part, streams: readonly S[], inners: readonly Tensor2D[], visitor: PassVisitor<S>): Promise<void> {
    await this.#withWeights(part, visitor, async (weights) => {
      await oneByOne(streams, visitor, (stream, index) => {
        const { spec } = this.#view
        stream.residual = advance(part, stream.residual, completePart(at(inners, index), weights, stream.residual, spec), spec)
      })
    })
  }

  async #withWeights<S extends Stream>(
    part: Part,
    { replace }: PassVisitor<S>,
    use: (weights: PartWeights<Matrix>) => Promise<void>,
  ): Promise<void> {
    const leased = await this.lease(part, replace !== undefined)
    let own: PartWeights | undefined
    try {
      own = await replace?.(leased as PartWeights)
      if (!own) await use(leased)
    } finally {
      this.release(part, leased)
    }
    if (!own) return
    try {
      await use(own)
    } finally {
      disposePart(own)
    }
  }

  /** Weights of a part in the form of its products, or `whole` in float32, until `release`. */
  async lease(part: Part, whole = false): Promise<PartWeights<Matrix>> {
    const next = this.#view.following(part)
    return this.#halves && !whole ? this.#halves.lease(part, next) : this.#view.lease(part, next)
  }

  release(part: Part, weights: PartWeights<Matrix>): void {
    if (this.#halves && hasHalves(weights)) this.#halves.release(part, weights)
    else this.#view.release(part, weights as PartWeights)
  }

  #run<S extends Stream>(part: Part, weights: PartWeights<Matrix>, streams: readonly S[], visitor: PassVisitor<S>): void {
    const before = joinResiduals(streams.map(({ residual }) => residual))
    const call = this.#callFor(streams, visitor)
    const packed = hasHalves(weights) && !call.observe ? runHalfPart(part, weights, before, call) : undefined
    this.#advance(part, streams, before, packed ?? runPart(part, weights, before, observingSums(part, call)))
  }

  async #passExperts<S extends Stream>(
    part: Part,
    mixture: MixtureWeights<Matrix>,
    groups: readonly S[][],
    visitor: PassVisitor<S>,
  ): Promise<void> {
    const befores = groups.map((streams) => joinResiduals(streams.map(({ residual }) => residual)))
    const passing = groups.map((streams, index) => ({ residual: at(befores, index), call: this.#callFor(streams, visitor) }))
    try {
      const after = await passExperts(mixture, passing, visitor)
      for (const [index, streams] of groups.entries()) this.#advance(part, streams, at(befores, index), at(after, index))
    } catch (error) {
      for (const [index, streams] of groups.entries()) if (streams.length > 1) disposeResidual(at(befores, index))
      throw error
    }
  }

  /** Moves streams past a part that they passed side by side. */
  #advance<S extends Stream>(part: Part, streams: readonly S[], before: Residual, after: Tensor2D): void {
    const { spec } = this.#view
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

  #callFor<S extends Stream>(streams: readonly S[], { observe, sumNeurons, past, only }: PassVisitor<S>): CallContext {
    const [first] = streams as readonly [S]
    const batch = streams.reduce((sum, one) => sum + one.batch, 0)
    return {
      spec: this.#view.spec,
      batch,
      tokens: first.tokens,
      rotary: past ? this.#tablesAfter(past) : this.#tablesFor(first.tokens),
      only,
      ...(past ? { past } : {}),
      ...(observe ? { observe: (seen) => observe(first, seen) } : {}),
      ...(sumNeurons ? { sumNeurons: (sums) => sumNeurons(first, sums) } : {}),
    }
  }

  /** Rotary tables of placed rows by block. Created here, because they outlive a part. */
  #tablesAfter(past: Past): (block: number) => RotaryTables {
    for (const rotary of this.#rotaries) past.tables(rotary)
    return (block) => past.tables(this.#rotaries[block] as Rotary)
  }

  /** Rotary tables of a length by block, created once per walk. */
  #tablesFor(tokens: number): (block: number) => RotaryTables {
    const tables =
      this.#tables.get(tokens) ?? new Map([...new Set(this.#rotaries)].map((rotary) => [rotary, rotaryTables(rotary, 0, tokens)]))
    this.#tables.set(tokens, tables)
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
  }
}

/** The same call, with sums of neurons taken from what a part shows of them. */
function observingSums(part: Part, call: CallContext): CallContext {
  const { sumNeurons, batch, tokens } = call
  if (!sumNeurons || isAttention(part)) return call
  return { ...call, observe: ({ inner }) => sumNeurons((of) => columnSums(inner, batch, tokens, of)) }
}

/** With routers, the last digits of a token's scores decide which experts it meets, so split operands are not precise enough. */
function productsOf({ takesHalves, spec }: ModelView, products: Products): Products {
  if (!takesHalves) return 'float32'
  return products === 'split' && spec.router ? 'thirds' : products
}

/** Acts on one item after the other, and lets messages in between them. */
async function oneByOne<T>(items: readonly T[], { signal }: { signal?: AbortSignal | undefined }, act: (item: T, index: number) => void) {
  for (let index = 0; index < items.length; index++) {
    if (index > 0) await breathe()
    signal?.throwIfAborted()
    act(at(items, index), index)
  }
}

/** Neighbours that may run as one larger batch, in order. */
function joinable<S extends Stream>(streams: readonly S[], { joinUpTo = 0, observe, sumNeurons }: PassVisitor<S>): S[][] {
  const groups: S[][] = []
  let rows = 0
  for (const stream of streams) {
    const own = stream.batch * stream.tokens
    const group = groups.at(-1)
    if (group && !observe && !sumNeurons && group[0]?.tokens === stream.tokens && rows + own <= joinUpTo) {
      group.push(stream)
      rows += own
    } else {
      groups.push([stream])
      rows = own
    }
  }
  return groups
}

/** Joins streams side by side. A single one is returned unchanged. */
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
