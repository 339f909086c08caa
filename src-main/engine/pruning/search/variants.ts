import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, groupWindows, rowsPerCall, type WindowGroup } from '#engine/model/forward.ts'
import { rowDivergences } from '#engine/model/parts/head/row-divergences.ts'
import { allTokenLosses, nextTokens } from '#engine/model/parts/head/token-losses.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { breathe, copyStream, disposeStreams, type Stream, skipPart, Walk } from '#engine/model/walk.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import type { Products } from '#engine/tensor/products.ts'
import { type PassCount, sharedPasses } from '../method.ts'
import {
  type DenseStates,
  disposeDistribution,
  firstDifference,
  type Reach,
  Trunk,
  type Variant,
  type VariantMemory,
  windowName,
} from './trunk.ts'

export interface ScorerOptions {
  /** The products that compute parts and the head. Default: float32. */
  readonly products?: Products
  /** Whether variants share streams. Tests turn it off to check that sharing changes nothing. Default: on. */
  readonly sharing?: boolean
  readonly signal?: AbortSignal
}

/** If weights are packed for a walk, it should have at least this many rows. */
const rowsPerPacking = 8 * rowsPerCall

/**
 * Scores many variants that differ in few submodules, on one set of windows. Variants go through the parts together, a pack at a time.
 * Those that agree up to a part share one branch up to it. The weights of each part are leased once for all branches, and the head runs in
 * chunks of rows. A greedy search names what all its candidates lack. Their common path, the trunk, is kept between calls, so only what
 * follows the last accepted removal is computed again.
 */
export class VariantScorer {
  readonly passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  readonly #view: ModelView
  readonly #groups: readonly WindowGroup[]
  readonly #walk: Walk
  readonly #sharing: boolean
  readonly #signal: AbortSignal | undefined
  readonly #trunks = new Map<WindowGroup, Trunk>()
  readonly #products: Products
  /** Whether scores only rank. One that is not finite is then scored again with products of a larger range. */
  readonly #ranks: boolean

  constructor(view: ModelView, windows: Windows, { products = 'float32', sharing, signal }: ScorerOptions = {}) {
    this.#view = view
    this.#groups = groupWindows(windows)
    this.#walk = new Walk(view, products)
    this.#sharing = sharing ?? true
    this.#signal = signal
    this.#products = products
    const { ranking, deciding } = view.model.products
    this.#ranks = products === ranking && ranking !== deciding
  }

  /** Returns the mean loss of the next token of each variant, in nats. `lacking` is what all variants lack. */
  async score(variants: readonly Variant[], lacking?: Variant): Promise<Float64Array> {
    const sums = new Float64Array(variants.length)
    let tokens = 0
    for (const group of this.#groups) {
      tokens += group.batch * (group.tokens - 1)
      for (const pack of this.#packs(variants, group, lacking)) {
        const branches = await this.#walkPack(variants, pack, group, lacking)
        try {
          await this.#addScores(sums, branches, group)
        } finally {
          disposeStreams(branches)
        }
      }
    }
    return sums.map((sum) => sum / tokens)
  }

  /**
   * Returns all variants as one walk if their streams fit in the workspace. If the trunk and the weights are kept, walks are smaller,
   * because a walk then begins only where its first variant leaves the trunk.
   */
  #packs(variants: readonly Variant[], group: WindowGroup, lacking: Variant | undefined): number[][] {
    const { model, parts, spec } = this.#view
    const bytes = 4 * group.ids.length * spec.hidden * (spec.parallelResidual ? 2 : 1)
    const starts = variants.map((variant) => (lacking ? firstDifference(variant, lacking, parts) : 0))
    const short = lacking && this.#sharing && !model.store.streams
    const rows = this.#walk.packsWeights ? rowsPerPacking : rowsPerCall
    return packVariants(starts, {
      fitting: Math.floor(model.workspaceBytes / 2 / bytes),
      ...(short ? { wanted: Math.ceil(rows / group.ids.length) } : {}),
    })
  }

  /** Takes a pack through all parts. Returns its streams after the last one, which the caller disposes of. */
  async #walkPack(variants: readonly Variant[], pack: readonly number[], group: WindowGroup, lacking: Variant | undefined) {
    const kept = this.#sharing ? lacking : undefined
    const trunk = kept ? await this.#trunkFor(group, kept) : await this.#newTrunk(group, new Uint8Array())
    const starts = Map.groupBy(pack, (index) => (kept ? firstDifference(variants[index] as Variant, kept, this.#view.parts) : 0))
    try {
      return await this.#follow(trunk, starts, variants, kept !== undefined)
    } finally {
      if (kept) trunk.rest()
      else trunk.dispose()
    }
  }

  async #newTrunk(group: WindowGroup, removed: Variant): Promise<Trunk> {
    return new Trunk(removed, await this.#walk.embed(group.ids, group.batch))
  }

  async #trunkFor(group: WindowGroup, removed: Variant): Promise<Trunk> {
    const trunk = this.#trunks.get(group)?.moveTo(removed, this.#view.parts) ?? (await this.#newTrunk(group, removed))
    this.#trunks.set(group, trunk)
    return trunk
  }

  /** Walks along a trunk. At each of `starts`, the variants named there branch off. */
  async #follow(trunk: Trunk, starts: Map<number, number[]>, variants: readonly Variant[], keeps: boolean): Promise<Branch[]> {
    const { parts, model } = this.#view
    const positions = new Set(starts.keys())
    let branches: Branch[] = []
    try {
      for (let position = trunk.firstPosition(positions); position <= parts.length; position++) {
        this.#signal?.throwIfAborted()
        trunk.arrive(position, positions)
        branches.push(...this.#leaving(trunk, position, starts.get(position) ?? []))
        // A walk over streamed weights passes all parts anyway, so memory matters more than the trunk of the next round.
        if (positions.has(position) && (keeps ? position > 0 && model.store.streams : true)) trunk.forget(position)
        const part = parts[position]
        if (part === undefined) break
        branches = await this.#pass(part, branches, variants, trunk)
        if (position % 8 === 0) await breathe()
      }
      return branches
    } catch (error) {
      disposeStreams(branches)
      throw error
    }
  }

  /** Returns one branch for all variants that leave the trunk at a position, or one for each if nothing is shared. */
  #leaving(trunk: Trunk, position: number, variants: readonly number[]): Branch[] {
    if (variants.length === 0) return []
    const groups = this.#sharing ? [variants] : variants.map((variant) => [variant])
    return groups.map((own) => ({ ...trunk.leave(position), variants: own }))
  }

  /** Takes branches and the trunk's stem past one part. Streams of variants that lack the part stay unchanged. */
  async #pass(part: Part, branches: readonly Branch[], variants: readonly Variant[], trunk: Trunk): Promise<Branch[]> {
    const { having, lacking } = divideBranches(branches, (variant) => variants[variant]?.[part] === 1)
    const stemLacks = trunk.removed[part] === 1
    const running = stemLacks ? having : [...having, ...trunk.stem]
    try {
      if (running.length > 0) await this.#walk.pass(part, running, { joinUpTo: this.#sharing ? rowsPerCall : 0, signal: this.#signal })
    } catch (error) {
      disposeStreams([...having, ...lacking])
      throw error
    }
    this.passes[isAttention(part) ? 'attention' : 'mlp'] += running.reduce((windows, { batch }) => windows + batch, 0)
    for (const stream of stemLacks ? [...lacking, ...trunk.stem] : lacking) skipPart(part, stream)
    return [...having, ...lacking]
  }

  /** Scores streams after the last part and adds each to the sums of its variants. */
  async #addScores(sums: Float64Array, branches: readonly Branch[], group: WindowGroup): Promise<void> {
    const hidden = branches.map(({ residual }) => finalHidden(this.#view, residual.x))
    const how = { products: this.#products, signal: this.#signal, ranks: this.#ranks }
    const scores = await allTokenLosses(this.#view.model.vocabulary, hidden, nextTokens(group.ids, group.tokens), how).finally(() => {
      for (const tensor of hidden) tensor.dispose()
    })
    this.passes.head += branches.length * group.batch
    for (const [i, { variants }] of branches.entries()) {
      const sum = sumPredicted(scores[i] as Float64Array, group.tokens)
      for (const index of variants) sums[index] = (sums[index] as number) + sum
    }
  }

  dispose(): void {
    for (const trunk of this.#trunks.values()) trunk.dispose()
    this.#walk.dispose()
  }
}

/** How variants are divided among walks. */
interface PackLimits {
  /** How many streams the workspace holds at once. */
  readonly fitting: number
  /** How many variants a walk should have, so that its products are large enough. Default: all of them. */
  readonly wanted?: number
}

/**
 * Divides variants into packs, one for each walk, in the order in which they leave the trunk. `starts[i]` is the position where variant i
 * leaves it.
 */
function packVariants(starts: readonly number[], { fitting, wanted = starts.length }: PackLimits): number[][] {
  const size = Math.max(1, Math.min(fitting, wanted))
  const order = [...starts.keys()].sort((a, b) => (starts[a] as number) - (starts[b] as number))
  return Array.from({ length: Math.ceil(order.length / size) }, (_, pack) => order.slice(pack * size, (pack + 1) * size))
}

/** Sums scores over the rows that predict a token. The last row of each window predicts none. */
export function sumPredicted(scores: Float64Array, tokens: number): number {
  return scores.filter((_, row) => row % tokens !== tokens - 1).reduce((total, score) => total + score, 0)
}

/** A stream that some variants have shared so far. */
export interface Branch extends Stream {
  /** The indices of these variants in the list that is scored. */
  readonly variants: readonly number[]
}

/**
 * Divides branches before a part into those whose variants have it and those whose variants lack it. A branch with both kinds is copied.
 */
export function divideBranches(branches: readonly Branch[], lacks: (variant: number) => boolean): { having: Branch[]; lacking: Branch[] } {
  const having: Branch[] = []
  const lacking: Branch[] = []
  for (const branch of branches) {
    const without = branch.variants.filter(lacks)
    const rest = branch.variants.filter((variant) => !lacks(variant))
    if (without.length > 0) lacking.push({ ...(rest.length > 0 ? copyStream(branch) : branch), variants: without })
    if (rest.length > 0) having.push({ ...branch, variants: rest })
  }
  return { having, lacking }
}

/** What a search remembers: scores and streams of variants, and the dense model's answers. */
export interface Recall {
  readonly memory: VariantMemory
  readonly dense: DenseStates
  /**
   * The windows that this run has scored on, named together with the products used. Without the memory, the run would have computed the
   * dense model's answers to each of them.
   */
  readonly seen: Set<string>
}

/** A variant to score on a window. */
interface Job {
  readonly window: Int32Array
  readonly variant: Variant
  /** Names the window and the products, as a key of the memory. */
  readonly place: string
}

/**
 * Scores variants by their divergence from the dense model. Each variant starts on each window from the furthest remembered stream. Windows
 * and branches are multiplied separately, so a remembered value has exactly the bits of a recomputed one.
 */
export class RecallingScorer {
  readonly passes: PassCount = { attention: 0, mlp: 0, head: 0, recalled: 0 }
  /** The weight of each window in a score. */
  readonly shares: readonly number[]
  readonly #view: ModelView
  readonly #windows: Windows
  readonly #recall: Recall
  readonly #products: Products
  readonly #signal: AbortSignal | undefined
  readonly #walk: Walk

  constructor(view: ModelView, windows: Windows, recall: Recall, products: Products, signal?: AbortSignal) {
    this.#view = view
    this.#windows = windows
    this.#recall = recall
    this.#products = products
    this.#signal = signal
    this.#walk = new Walk(view, products)
    const predicted = windows.reduce((sum, { length }) => sum + length - 1, 0)
    this.shares = windows.map(({ length }) => (length - 1) / predicted)
  }

  /** Returns the mean divergence per predicted token of each variant, in nats. */
  async score(variants: readonly Variant[]): Promise<Float64Array> {
    await this.look(variants.flatMap((variant) => this.#windows.map((_, window) => ({ variant, window }))))
    return Float64Array.from(variants, (variant) => this.#meanOf(variant))
  }

  #meanOf(variant: Variant): number {
    let [sum, tokens] = [0, 0]
    for (const window of this.#windows) {
      sum += this.#recall.memory.scoreOf(this.#placeOf(window), variant) ?? Number.NaN
      tokens += window.length - 1
    }
    return sum / tokens
  }

  #placeOf(window: Int32Array): string {
    return `${this.#products}|${windowName(window)}`
  }

  /** Returns the mean divergence per predicted token for pairs of a variant and a window, which is given by index. */
  async look(looks: readonly { readonly variant: Variant; readonly window: number }[]): Promise<Float64Array> {
    const { memory } = this.#recall
    const jobs = looks.map(({ variant, window: index }): Job => {
      const window = this.#windows[index] as Int32Array
      return { window, variant, place: this.#placeOf(window) }
    })
    const before = this.#submodules
    for (const pack of this.#packs(jobs.filter(({ place, variant }) => memory.scoreOf(place, variant) === undefined)))
      await this.#scoreTogether(pack)
    this.passes.recalled = (this.passes.recalled ?? 0) + this.#needed(jobs) - (this.#submodules - before)
    return Float64Array.from(jobs, ({ window, variant, place }) => (memory.scoreOf(place, variant) ?? Number.NaN) / (window.length - 1))
  }

  /** Returns the passes through submodules that a call would make without the memory, including those of the dense model on new windows. */
  #needed(jobs: readonly Job[]): number {
    const { seen } = this.#recall
    let needed = 0
    for (const [place, same] of Map.groupBy(jobs, (job) => job.place)) {
      const { attention, mlp } = sharedPasses(same.map(({ variant }) => variant))
      needed += attention + mlp + (seen.has(place) ? 0 : this.#view.parts.length)
      seen.add(place)
    }
    return needed
  }

  get #submodules(): number {
    return this.passes.attention + this.passes.mlp
  }

  /** Divides jobs into packs whose streams fit in the workspace. */
  #packs(jobs: readonly Job[]): Job[][] {
    const { model, spec } = this.#view
    const longest = Math.max(1, ...jobs.map(({ window }) => window.length))
    const bytes = 4 * longest * spec.hidden * (spec.parallelResidual ? 2 : 1)
    const size = Math.max(1, Math.floor(model.workspaceBytes / 2 / bytes))
    return Array.from({ length: Math.ceil(jobs.length / size) }, (_, pack) => jobs.slice(pack * size, (pack + 1) * size))
  }

  async #scoreTogether(jobs: readonly Job[]): Promise<void> {
    const branches = await this.#walkAll(jobs)
    try {
      const byWindow = Map.groupBy(branches, ({ variants: [first] }) => jobs[first as number]?.window as Int32Array)
      for (const [window, own] of byWindow) await this.#scoreWindow(window, own, jobs)
    } finally {
      disposeStreams(branches)
    }
  }

  /** Takes all jobs through the parts, each from its furthest remembered stream. Returns the streams after the last part. */
  async #walkAll(jobs: readonly Job[]): Promise<Branch[]> {
    const { parts } = this.#view
    const waiting = await this.#beginnings(jobs)
    let branches: Branch[] = []
    try {
      for (const [position, part] of parts.entries()) {
        this.#signal?.throwIfAborted()
        while ((waiting.at(-1)?.from ?? Number.POSITIVE_INFINITY) <= part) branches.push((waiting.pop() as { branch: Branch }).branch)
        branches = await this.#pass(part, branches, jobs)
        const next = parts[position + 1]
        if (next !== undefined && blockOf(next) !== blockOf(part)) this.#keep(2 * blockOf(next), branches, jobs)
        if (position % 8 === 0) await breathe()
      }
      return branches
    } catch (error) {
      disposeStreams([...branches, ...waiting.map(({ branch }) => branch)])
      throw error
    }
  }

  /** Returns one branch for all jobs that start from the same stream. Branches that start first come last. */
  async #beginnings(jobs: readonly Job[]): Promise<{ from: number; branch: Branch }[]> {
    const reaches = jobs.map(({ place, variant }) => this.#recall.memory.reach(place, variant))
    const groups = Map.groupBy(jobs.keys(), (job) => (reaches[job] as Reach).key)
    const begun: { from: number; branch: Branch }[] = []
    for (const [key, variants] of groups) {
      const first = variants[0] as number
      const { from } = reaches[first] as Reach
      const stream = from === 0 ? await this.#walk.embed((jobs[first] as Job).window, 1) : this.#recall.memory.take(key)
      begun.push({ from, branch: { ...stream, variants } })
    }
    return begun.sort((one, other) => other.from - one.from)
  }

  async #pass(part: Part, branches: readonly Branch[], jobs: readonly Job[]): Promise<Branch[]> {
    const { having, lacking } = divideBranches(branches, (job) => jobs[job]?.variant[part] === 1)
    try {
      if (having.length > 0) await this.#walk.pass(part, having, { signal: this.#signal })
    } catch (error) {
      disposeStreams([...having, ...lacking])
      throw error
    }
    this.passes[isAttention(part) ? 'attention' : 'mlp'] += having.length
    for (const branch of lacking) skipPart(part, branch)
    return [...having, ...lacking]
  }

  #keep(from: number, branches: readonly Branch[], jobs: readonly Job[]): void {
    for (const branch of branches) {
      const { place, variant } = jobs[branch.variants[0] as number] as Job
      this.#recall.memory.keep(place, variant, from, branch)
    }
  }

  async #scoreWindow(window: Int32Array, branches: readonly Branch[], jobs: readonly Job[]): Promise<void> {
    const { dense, memory } = this.#recall
    const before = dense.passes
    const how = { products: this.#products, signal: this.#signal }
    const distribution = await dense.of([window], how)
    this.#countDense(dense.passes - before)
    const hidden = branches.map(({ residual }) => finalHidden(this.#view, residual.x))
    const scores = await rowDivergences(this.#view.model.vocabulary, distribution, hidden, how).finally(() => {
      for (const tensor of hidden) tensor.dispose()
      disposeDistribution(distribution)
    })
    this.passes.head += branches.length
    for (const [index, { variants }] of branches.entries()) {
      const sum = sumPredicted(scores[index] as Float64Array, window.length)
      for (const job of variants) memory.keepScore((jobs[job] as Job).place, (jobs[job] as Job).variant, sum)
    }
  }

  #countDense(windows: number): void {
    const attention = this.#view.parts.filter(isAttention).length
    this.passes.attention += windows * attention
    this.passes.mlp += windows * (this.#view.parts.length - attention)
  }

  dispose(): void {
    this.#walk.dispose()
  }
}
