import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { disposeResidual, type Residual } from '#engine/model/decoder.ts'
import { rowDivergences } from '#engine/model/divergence.ts'
import { finalHidden, groupWindows, type WindowGroup } from '#engine/model/forward.ts'
import { nextTokens, tokenLosses } from '#engine/model/likelihood.ts'
import type { ModelView } from '#engine/model/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { isAttention, type Part } from '#engine/model/weights.ts'
import { DenseStates, disposeDistribution } from './dense-states.ts'
import { firstDifference, Trunk, type Variant } from './trunk.ts'

/**
 * Scores many plans that differ in few submodules. Variants that agree up to a part share the stream up to it (a prefix tree
 * over parts); each part's weights are leased once per walk and serve all branches; the head runs in row chunks.
 * Greedy searches pass their `trunk`, the removals that all candidates have in common: its streams are kept between calls
 * and only those behind the last accepted removal are computed again.
 */

export interface PassCount {
  /** Windows that went through an attention, an MLP, the head. */
  attention: number
  mlp: number
  head: number
}

export interface ScorerOptions {
  /** Mean loss of the next token, or divergence of its distribution from that of `dense`. */
  readonly measure: 'loss' | 'divergence'
  /** What divergence is measured from, where it outlives the scorer; the view itself without it. */
  readonly dense?: DenseStates
  /** Off: each variant on its own from the embedding, to check that sharing changes nothing. */
  readonly sharing?: boolean
  readonly signal?: AbortSignal
}

interface Branch extends Stream {
  readonly variants: number[]
}

/** Rows that one product should at least have; branches are joined up to it. */
const rowsPerProduct = 2048

/** Scores variants of one view on one set of windows. */
export class VariantScorer {
  readonly passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  readonly #view: ModelView
  readonly #options: ScorerOptions
  readonly #groups: WindowGroup[]
  readonly #walkOver: Walk
  readonly #trunks = new Map<WindowGroup, Trunk>()
  readonly #windows: Windows
  #ownDense: DenseStates | undefined

  constructor(view: ModelView, windows: Windows, options: ScorerOptions) {
    this.#view = view
    this.#options = options
    this.#windows = windows
    this.#groups = groupWindows(windows)
    this.#walkOver = new Walk(view)
  }

  /** Mean score per predicted token of each variant, in nats; lower is better. `trunk` must agree with each variant but for removals it lacks. */
  async score(variants: readonly Variant[], trunk?: Variant): Promise<Float64Array> {
    const sums = new Float64Array(variants.length)
    let tokens = 0
    for (const group of this.#groups) {
      tokens += group.batch * (group.tokens - 1)
      for (const together of this.#packs(variants, group, trunk)) await this.#walk(variants, together, group, trunk, sums)
    }
    return sums.map((sum) => sum / tokens)
  }

  /** Which variants go through the stack in one walk: all, unless their streams outgrow the workspace or a kept trunk makes walks short. */
  #packs(variants: readonly Variant[], group: WindowGroup, trunk: Variant | undefined): number[][] {
    const all = variants.map((_, index) => index)
    const streams = this.#view.model.store.streams
    const bytes = 4 * group.ids.length * this.#view.spec.hidden * (this.#view.spec.parallelResidual ? 2 : 1)
    const fit = Math.max(1, Math.floor(this.#view.model.workspaceBytes / 2 / bytes))
    const wanted = trunk && this.#sharing && !streams ? Math.max(1, Math.ceil(rowsPerProduct / group.ids.length)) : all.length
    const size = Math.min(fit, wanted)
    if (trunk) {
      const start = (index: number) => firstDifference(variants[index] as Variant, trunk, this.#view.parts)
      all.sort((a, b) => start(a) - start(b))
    }
    return Array.from({ length: Math.ceil(all.length / size) }, (_, pack) => all.slice(pack * size, (pack + 1) * size))
  }

  get #sharing(): boolean {
    return this.#options.sharing !== false
  }

  async #walk(
    variants: readonly Variant[],
    together: number[],
    group: WindowGroup,
    trunkVariant: Variant | undefined,
    sums: Float64Array,
  ): Promise<void> {
    const { parts } = this.#view
    const trunk = trunkVariant && this.#sharing ? await this.#trunkFor(group, trunkVariant) : undefined
    const starts = Map.groupBy(together, (index) => (trunk ? firstDifference(variants[index] as Variant, trunk.removed, parts) : 0))
    let branches: Branch[] = []
    let stem: Residual | undefined
    try {
      for (let position = trunk?.firstPosition(starts.keys()) ?? 0; position <= parts.length; position++) {
        this.#options.signal?.throwIfAborted()
        const entering = starts.get(position)
        if (trunk && stem) {
          // Kept where candidates leave the trunk, in this round and so in later ones; elsewhere only passed through.
          if (entering && !trunk.get(position)) trunk.set(position, cloneResidual(stem))
          if (!trunk.mustRun(position, starts.keys())) stem = release(stem)
        } else if (trunk?.mustRun(position, starts.keys())) {
          stem = cloneResidual(trunk.get(position) as Residual)
        }
        if (entering) branches.push(...(await this.#enter(entering, trunk, position, group)))
        // A walk over streamed weights passes all parts anyway: memory counts for more than the trunk of the next round.
        if (trunk && entering && position > 0 && this.#view.model.store.streams) trunk.forget(position)
        if (position === parts.length) break
        const stemBranch = stem && { variants: [], batch: group.batch, tokens: group.tokens, residual: stem }
        branches = await this.#step(position, branches, variants, stemBranch, trunk)
        stem = stemBranch?.residual
        if (position % 8 === 0) await breathe()
      }
      await this.#finish(branches, group, sums)
    } finally {
      for (const branch of branches) disposeResidual(branch.residual)
      if (stem) disposeResidual(stem)
    }
  }

  async #trunkFor(group: WindowGroup, removed: Variant): Promise<Trunk> {
    const trunk = this.#trunks.get(group)?.moveTo(removed, this.#view.parts) ?? new Trunk(removed)
    if (!trunk.get(0)) trunk.set(0, await this.#embed(group))
    this.#trunks.set(group, trunk)
    return trunk
  }

  async #embed(group: WindowGroup): Promise<Residual> {
    return (await this.#walkOver.embed(group.ids, group.batch)).residual
  }

  async #enter(indices: number[], trunk: Trunk | undefined, position: number, group: WindowGroup): Promise<Branch[]> {
    const { batch, tokens } = group
    if (trunk) return [{ batch, tokens, variants: indices, residual: cloneResidual(trunk.get(position) as Residual) }]
    if (this.#sharing) return [{ batch, tokens, variants: indices, residual: await this.#embed(group) }]
    return Promise.all(indices.map(async (index) => ({ batch, tokens, variants: [index], residual: await this.#embed(group) })))
  }

  /** Takes all branches and the trunk's stem past one part: those that lack it go on as they are, the others run it. */
  async #step(
    position: number,
    branches: Branch[],
    variants: readonly Variant[],
    stem: Branch | undefined,
    trunk: Trunk | undefined,
  ): Promise<Branch[]> {
    const part = this.#view.parts[position] as Part
    const skipping: Branch[] = []
    const running: Branch[] = []
    for (const branch of branches) {
      const without = branch.variants.filter((index) => variants[index]?.[part] === 1)
      const having = branch.variants.filter((index) => variants[index]?.[part] !== 1)
      if (without.length > 0)
        skipping.push({ ...branch, variants: without, residual: having.length > 0 ? cloneResidual(branch.residual) : branch.residual })
      if (having.length > 0) running.push({ ...branch, variants: having })
    }
    const own = [...running, ...skipping]
    if (stem) (trunk?.removed[part] === 1 ? skipping : running).push(stem)
    if (running.length > 0) await this.#run(part, running)
    for (const branch of skipping) branch.residual = skipPart(part, branch.residual)
    return own
  }

  async #run(part: Part, branches: Branch[]): Promise<void> {
    await this.#walkOver.pass(part, branches, { joinUpTo: this.#sharing ? rowsPerProduct : 0 })
    this.passes[isAttention(part) ? 'attention' : 'mlp'] += branches.reduce((sum, { batch }) => sum + batch, 0)
  }

  /** Scores the streams at the end of the stack and adds each to the sums of its variants. */
  async #finish(branches: Branch[], group: WindowGroup, sums: Float64Array): Promise<void> {
    const hidden = branches.map((branch) => finalHidden(this.#view, branch.residual.x))
    const scores = this.#options.measure === 'loss' ? await this.#losses(hidden, group) : await this.#divergences(hidden, group)
    for (const tensor of hidden) tensor.dispose()
    this.passes.head += branches.length * group.batch
    branches.forEach((branch, i) => {
      const predicted = (scores[i] as Float64Array).filter((_, row) => row % group.tokens !== group.tokens - 1)
      const sum = predicted.reduce((total, score) => total + score, 0)
      for (const index of branch.variants) sums[index] = (sums[index] ?? 0) + sum
    })
  }

  async #losses(hidden: Tensor2D[], group: WindowGroup): Promise<Float64Array[]> {
    const targets = nextTokens(group.ids, group.tokens)
    const scores: Float64Array[] = []
    for (const rows of hidden) scores.push(await tokenLosses(this.#view.model.vocabulary, rows, targets))
    return scores
  }

  async #divergences(hidden: Tensor2D[], group: WindowGroup): Promise<Float64Array[]> {
    this.#ownDense ??= this.#options.dense ? undefined : new DenseStates(this.#view, this.#view.model.workspaceBytes / 4)
    const states = this.#options.dense ?? (this.#ownDense as DenseStates)
    const before = states.passes
    const dense = await states.of(group.indices.map((index) => this.#windows[index] as Int32Array))
    this.#countDense(states.passes - before)
    const scores = await rowDivergences(this.#view.model.vocabulary, dense, hidden)
    disposeDistribution(dense)
    return scores
  }

  #countDense(windows: number): void {
    const attention = this.#view.parts.filter(isAttention).length
    this.passes.attention += windows * attention
    this.passes.mlp += windows * (this.#view.parts.length - attention)
  }

  dispose(): void {
    for (const trunk of this.#trunks.values()) trunk.dispose()
    this.#ownDense?.dispose()
    this.#walkOver.dispose()
  }
}

function release(residual: Residual): undefined {
  disposeResidual(residual)
}

function cloneResidual({ x, source }: Residual): Residual {
  return { x: x.clone(), source: source.clone() }
}

/** Past a removed part the stream is unchanged; past an MLP it is the next block's input. */
function skipPart(part: Part, residual: Residual): Residual {
  if (isAttention(part)) return residual
  const { x } = residual
  residual.source.dispose()
  return { x, source: x.clone() }
}
