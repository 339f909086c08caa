import { concat, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Matrix, Products } from '#engine/tensor/products.ts'
import { type Rotary, type RotaryTables, rotaryTables } from '#engine/tensor/rotary.ts'
import { columnSums } from '#engine/tensor/sums.ts'
import { completePart, observePart, runFusedPart, runPart } from './decoder.ts'
import type { Past } from './parts/attention/cache.ts'
import { passExperts, readsExperts } from './parts/mixture/pass-experts.ts'
import { advance, type CallContext, disposeResidual, type NeuronSums, type PartActivations, type Residual } from './parts/part.ts'
import type { ModelView } from './views/view.ts'
import { hasPackedWeights, PackedWeights } from './weights/packed-weights.ts'
import { disposePart } from './weights/unpack.ts'
import { isAttention, type MixtureWeights, type Part, type PartWeights } from './weights/weights.ts'

/** B samples of T tokens each on their way through the parts, [B*T, D]. */
export interface Stream {
  readonly batch: number
  readonly tokens: number
  residual: Residual
}

/** Options and callbacks for streams that pass a part. */
interface PassVisitor<S extends Stream> {
  /** Returns other weights for this pass, given the part's. They need their own tensors, which are disposed of after the pass. */
  replace?(weights: PartWeights): PartWeights | Promise<PartWeights>
  /** Receives what the part reads and writes, for one stream after another. The tensors are valid during the call only. */
  observe?(stream: S, seen: PartActivations): void
  /** Receives sums of the neurons of MLPs, for one stream after another. They are valid during the call only. */
  sumNeurons?(stream: S, sums: NeuronSums): void
  /** Streams of equal length are joined up to this many rows to share products. Default: not at all. Observed streams are never joined. */
  readonly joinUpTo?: number
  /** Which experts of a mixture run, if it is only observed. */
  readonly only?: ((expert: number) => boolean) | undefined
  /** Can abort the pass between two streams, or between two experts that are read one by one. */
  readonly signal?: AbortSignal | undefined
  /** The sequences and positions of the rows of the only stream. New keys, values and memories are stored there. */
  readonly past?: Past
}

/** Lets the process handle timers and messages, on which cancelling and heartbeats depend. */
export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Handles timers and messages, and throws if the work was cancelled. */
export async function pause(signal: AbortSignal | undefined): Promise<void> {
  await breathe()
  signal?.throwIfAborted()
}

const pauseMilliseconds = 100

/** Returns a function to call often in a long loop without operations of a backend. Pauses where the last pause is long ago. */
export function regularPause(signal: AbortSignal | undefined): () => Promise<boolean> {
  let pausedAt = performance.now()
  return async () => {
    if (performance.now() - pausedAt < pauseMilliseconds) return false
    await pause(signal)
    pausedAt = performance.now()
    return true
  }
}

/**
 * The only loop over weights: it leases a part's weights, takes every stream through the part, and releases the weights. Forward passes,
 * variants, rotations and sessions decide which streams pass which part, and observe them. `products` is the kind of products in parts.
 */
export class Walk {
  readonly products: Products
  readonly #view: ModelView
  readonly #packed: PackedWeights | undefined
  readonly #rotaries: readonly Rotary[]
  readonly #tables = new Map<number, ReadonlyMap<Rotary, RotaryTables>>()

  /**
   * With `keepsPacked`, weights are packed once and stay packed, which suits walks of few rows. Models that cannot use 16-bit operands are
   * computed in float32.
   */
  constructor(view: ModelView, products: Products = 'float32', { keepsPacked = false } = {}) {
    this.products = productsOf(view, products)
    this.#view = view
    this.#packed = this.products === 'float32' ? undefined : new PackedWeights(view, this.products, keepsPacked)
    this.#rotaries = view.spec.blocks.map((_, block) => view.spec.rotary(block))
  }

  /** Whether each pass packs the part's weights, so that it is worth passing several streams together. */
  get packsWeights(): boolean {
    return this.#packed !== undefined
  }

  /** Embeds ids [B*T]. Returns the stream of `batch` samples before the first part. */
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

  /** Runs a part only up to the input of its last projection, which the visitor observes. The streams stay before the part. */
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

  /** Completes a part for streams, given the input of its last projection for each, which `look` showed. */
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
    let replaced: PartWeights | undefined
    try {
      replaced = await replace?.(leased as PartWeights)
      if (!replaced) await use(leased)
    } finally {
      this.release(part, leased)
    }
    if (!replaced) return
    try {
      await use(replaced)
    } finally {
      disposePart(replaced)
    }
  }

  /** Leases the weights of a part until `release`, in the form that `products` takes, or in float32 if `inFloat32` is set. */
  async lease(part: Part, inFloat32 = false): Promise<PartWeights<Matrix>> {
    const next = this.#view.following(part)
    return this.#packed && !inFloat32 ? this.#packed.lease(part, next) : this.#view.lease(part, next)
  }

  release(part: Part, weights: PartWeights<Matrix>): void {
    if (this.#packed && hasPackedWeights(weights)) this.#packed.release(part, weights)
    else this.#view.release(part, weights as PartWeights)
  }

  #run<S extends Stream>(part: Part, weights: PartWeights<Matrix>, streams: readonly S[], visitor: PassVisitor<S>): void {
    const before = joinResiduals(streams.map(({ residual }) => residual))
    const call = this.#callFor(streams, visitor)
    const packed = hasPackedWeights(weights) && !call.observe ? runFusedPart(part, weights, before, call) : undefined
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

  /** Moves streams past a part that they passed together, given the joined streams before and after it. */
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
      const ofStream: Tensor2D = slice(after, [first, 0], [rows, -1])
      stream.residual = advance(part, stream.residual, ofStream, spec)
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

  /**
   * Returns the rotary tables of placed rows for a block. They are created here, outside the parts' `tidy`, because they outlive a part.
   */
  #tablesAfter(past: Past): (block: number) => RotaryTables {
    for (const rotary of this.#rotaries) past.tables(rotary)
    return (block) => past.tables(this.#rotaries[block] as Rotary)
  }

  /** Returns the rotary tables for a block and this many tokens. They are created once per walk. */
  #tablesFor(tokens: number): (block: number) => RotaryTables {
    const tables =
      this.#tables.get(tokens) ?? new Map([...new Set(this.#rotaries)].map((rotary) => [rotary, rotaryTables(rotary, 0, tokens)]))
    this.#tables.set(tokens, tables)
    return (block) => tables.get(this.#rotaries[block] as Rotary) as RotaryTables
  }

  dispose(): void {
    this.#packed?.dispose()
    for (const tables of this.#tables.values()) {
      for (const { cosine, sine } of tables.values()) {
        cosine.dispose()
        sine.dispose()
      }
    }
    this.#tables.clear()
  }
}

/** Returns a call that computes the sums of neurons, if they are wanted, from the neurons that a part shows its observer. */
function observingSums(part: Part, call: CallContext): CallContext {
  const { sumNeurons, batch, tokens } = call
  if (!sumNeurons || isAttention(part)) return call
  return { ...call, observe: ({ inner }) => sumNeurons((of) => columnSums(inner, batch, tokens, of)) }
}

/**
 * The kind of products for a view. In a router, the last digits of scores decide which experts a token chooses, so split operands are not
 * precise enough.
 */
function productsOf({ takesBf16, spec }: ModelView, products: Products): Products {
  if (!takesBf16) return 'float32'
  return products === 'split' && spec.router ? 'thirds' : products
}

/** Acts on one item after another. Between items, timers and messages are handled, and an abort takes effect. */
async function oneByOne<T>(items: readonly T[], { signal }: { signal?: AbortSignal | undefined }, act: (item: T, index: number) => void) {
  for (let index = 0; index < items.length; index++) {
    if (index > 0) await breathe()
    signal?.throwIfAborted()
    act(at(items, index), index)
  }
}

/** Groups neighbouring streams that may run as one larger batch, in order. */
function joinable<S extends Stream>(streams: readonly S[], { joinUpTo = 0, observe, sumNeurons }: PassVisitor<S>): S[][] {
  const groups: S[][] = []
  let rows = 0
  for (const stream of streams) {
    const count = stream.batch * stream.tokens
    const group = groups.at(-1)
    if (group && !observe && !sumNeurons && group[0]?.tokens === stream.tokens && rows + count <= joinUpTo) {
      group.push(stream)
      rows += count
    } else {
      groups.push([stream])
      rows = count
    }
  }
  return groups
}

/** Concatenates streams. A single stream is returned unchanged, not copied. */
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

/** Copies a stream. */
export function copyStream({ batch, tokens, residual }: Stream): Stream {
  return { batch, tokens, residual: { x: residual.x.clone(), source: residual.source.clone() } }
}

export function disposeStreams(streams: Iterable<Stream>): void {
  for (const { residual } of streams) disposeResidual(residual)
}

/** Moves a stream past a removed part, which leaves it unchanged. After an MLP, the stream becomes the next block's input. */
export function skipPart(part: Part, stream: Stream): void {
  if (isAttention(part)) return
  const { x, source } = stream.residual
  source.dispose()
  stream.residual = { x, source: x.clone() }
}
