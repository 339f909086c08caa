import type { Windows } from '#engine/data/windows.ts'
import { rowDivergences } from '#engine/model/parts/head/divergence.ts'
import { finalHidden } from '#engine/model/forward.ts'
import { breathe, disposeStreams, skipPart, Walk } from '#engine/model/walk.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import type { Products } from '#engine/tensor/products.ts'
import { type PassCount, sharedPasses } from './passes.ts'
import { type DenseStates, disposeDistribution, type Reach, type Variant, type VariantMemory, windowName } from './trunk.ts'
import { type Branch, divideBranches, sumPredicted } from './variants.ts'

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
