import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, groupWindows, rowsPerCall, type WindowGroup } from '#engine/model/forward.ts'
import { rowDivergences } from '#engine/model/parts/head/row-divergences.ts'
import { disposeResidual } from '#engine/model/parts/part.ts'
import { productsOfFewDigits } from '#engine/model/precision.ts'
import { gatherMlp } from '#engine/model/views/gather-mlp.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { withProjection } from '#engine/model/views/replace.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { type Stream, Walk } from '#engine/model/walk.ts'
import { disposePart } from '#engine/model/weights/unpack.ts'
import { mlpOf, type Part, type PartWeights } from '#engine/model/weights/weights.ts'
import { DenseStates, disposeDistribution } from '#engine/pruning/search/trunk.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodRun } from '../method.ts'
import { densePlan } from '../plan.ts'
import { type BlockSums, openFit } from './block-sums.ts'
import type { DownFit } from './down-fit.ts'
import { type DivergenceTable, fallingCurve, keptAt, type WidthPoints } from './programme.ts'

interface Branch extends Stream {
  readonly group: WindowGroup
  /** The change that the branch tries: another width of the block, the next attention removed, or none. */
  readonly tries: number | 'attention' | 'base'
}

export const tableMeasuring = 'Measuring the table'

/** The table is measured on this many tokens of a window. More tokens take proportionally longer and change few choices. */
export const measuredTokens = 640

const divergenceStep: StepKind = { version: 2 }

/**
 * Measures how the divergence from the dense model changes when one MLP gets another width, or one attention submodule is removed. Each
 * block is one step. The changes are made to a model whose MLPs all have the base width and are repaired, because single changes to the
 * dense model lead to bad choices.
 */
export async function measureTable(
  view: ModelView,
  windows: Windows,
  sums: BlockSums,
  points: WidthPoints,
  run: MethodRun,
): Promise<DivergenceTable> {
  const { blocks } = view.spec
  const short = windows.map((window) => window.subarray(0, measuredTokens))
  const prober = new Prober(view, short, sums, points, run.signal)
  const on = { windows: short, points: { ...points }, sums: sums.tensors.files }
  const step = <T>(label: string, compute: () => Promise<T>) => run.step({ kind: divergenceStep, label, on }, compute)
  try {
    const base = await step('table: base', () => prober.base())
    const mlp: number[][] = []
    const attention = blocks.map(() => Number.POSITIVE_INFINITY)
    if (at(blocks, 0).attention) attention[0] = Math.max(0, (await step('table: first attention', () => prober.firstAttention())) - base)
    for (const block of blocks.keys()) {
      run.progress(tableMeasuring, block, blocks.length, 'blocks')
      const found = await step(`table: divergences of block ${block}`, () => prober.block(block))
      const change = (of: number | 'attention') => measured(found, of, block) - base
      mlp.push(fallingCurve(points.widths.map((width) => (width === points.base ? 0 : change(width)))))
      if (blocks[block + 1]?.attention) attention[block + 1] = Math.max(0, change('attention'))
    }
    return { base: points.base, widths: points.widths, mlp, attention }
  } finally {
    prober.dispose()
  }
}

/** Returns a divergence from a block's step. Throws if the step lacks it, because reading it as 0 would make that width free. */
function measured(found: Readonly<Record<string, number>>, of: number | 'attention', block: number): number {
  const value = found[of]
  if (value !== undefined) return value
  const what = of === 'attention' ? 'without the next attention' : `with ${of} neurons`
  throw new EspalierError('internal', `The table has no divergence of block ${block} ${what}. Start the run again without its steps.`)
}

/** Changes the base model in one place at a time and measures its divergence from the dense model. */
class Prober {
  readonly #dense: ModelView
  readonly #view: ModelView
  readonly #sums: BlockSums
  readonly #points: WidthPoints
  readonly #windows: Windows
  readonly #walk: Walk
  readonly #denseWalk: Walk
  readonly #states: DenseStates
  readonly #signal: AbortSignal
  /** The base model's streams in front of part `#at`. */
  #trunk: Branch[] = []
  #at: Part = -1

  constructor(dense: ModelView, windows: Windows, sums: BlockSums, points: WidthPoints, signal: AbortSignal) {
    this.#dense = dense
    this.#sums = sums
    this.#points = points
    this.#windows = windows
    this.#signal = signal
    const blocks = densePlan(dense.spec).blocks.map((block, index) => ({
      ...block,
      mlp: { kept: keptAt(points, index, points.base) },
      ...(sums.tensors.tensors.has(replacedName(index, 'down', 'weight')) ? { replaced: ['down' as const] } : {}),
    }))
    this.#view = viewWithPlan(dense.model, { blocks }, sums.tensors, { passing: true })
    const products = productsOfFewDigits(dense.model.products)
    this.#walk = new Walk(this.#view, products)
    this.#denseWalk = new Walk(dense, products)
    this.#states = new DenseStates(dense, dense.model.workspaceBytes / 4)
  }

  /** Returns the divergence of the base model itself, in nats per token. */
  async base(): Promise<number> {
    return this.#finish(await this.#embed(), 0)
  }

  /** Returns the divergence without the attention of block 0, which no MLP takes over. */
  async firstAttention(): Promise<number> {
    return this.#finish(await this.#embed(), mlpOf(0))
  }

  /**
   * Returns the divergence with each other width of a block and with the next attention removed. The MLP takes over that attention's output
   * if it can.
   */
  async block(block: number): Promise<Record<string, number>> {
    const trunk = await this.#upTo(mlpOf(block))
    const found: Record<string, number> = {}
    const { widths, base } = this.#points
    const tries: Branch['tries'][] = widths.filter((width) => width !== base)
    if (this.#view.spec.blocks[block + 1]?.attention) tries.push('attention')
    const fit = await openFit(this.#dense, this.#sums, block)
    try {
      for (const one of tries) {
        this.#signal.throwIfAborted()
        const branches = trunk.map((branch) => ({ ...branch, tries: one, residual: cloned(branch) }))
        await this.#tryOn(block, one, branches, fit)
        const behind = one === 'attention' ? mlpOf(block + 1) : mlpOf(block) + 1
        found[one] = await this.#finish(branches, behind)
      }
    } finally {
      fit.dispose()
    }
    return found
  }

  /** Passes branches through the MLP of a block with the change that they try. */
  async #tryOn(block: number, one: Branch['tries'], branches: Branch[], fit: DownFit): Promise<void> {
    const part = mlpOf(block)
    const kept = keptAt(this.#points, block, typeof one === 'number' ? one : this.#points.base)
    const fitted = typeof one === 'number' || fit.takesOver ? fit.solve(kept, one === 'attention') : undefined
    const replace = (weights: PartWeights): PartWeights => {
      const narrow: PartWeights = { mlp: gatherMlp(weights.mlp as never, { kept }) }
      if (!fitted) return narrow
      const own = withProjection(narrow, fitted.clone())
      disposePart(narrow)
      return own
    }
    if (typeof one === 'number' || fitted) await this.#denseWalk.pass(part, branches, { replace, joinUpTo: rowsPerCall })
    else await this.#walk.pass(part, branches, { joinUpTo: rowsPerCall })
    fitted?.dispose()
    if (one !== 'attention' || this.#view.spec.parallelResidual) return
    // Without its attention, a block reads the previous block's output.
    for (const branch of branches) {
      branch.residual.source.dispose()
      branch.residual = { x: branch.residual.x, source: branch.residual.x.clone() }
    }
  }

  /** Moves the trunk to a part and returns its streams there. */
  async #upTo(part: Part): Promise<Branch[]> {
    if (this.#at < 0) {
      this.#trunk = await this.#embed()
      this.#at = 0
    }
    for (const next of this.#view.parts.filter((one) => one >= this.#at && one < part)) await this.#walk.pass(next, this.#trunk)
    this.#at = part
    return this.#trunk
  }

  async #embed(): Promise<Branch[]> {
    const branches: Branch[] = []
    for (const group of groupWindows(this.#windows)) {
      branches.push({ ...(await this.#walk.embed(group.ids, group.batch)), group, tries: 'base' })
    }
    return branches
  }

  /** Runs branches from a part to the end, disposes of them, and returns their mean divergence. */
  async #finish(branches: Branch[], from: Part): Promise<number> {
    let [sum, rows] = [0, 0]
    for (const part of this.#view.parts.filter((one) => one >= from)) {
      this.#signal.throwIfAborted()
      await this.#walk.pass(part, branches, { joinUpTo: rowsPerCall })
    }
    for (const { group, residual } of branches) {
      const hidden = finalHidden(this.#view, residual.x)
      const dense = await this.#states.of(group.indices.map((index) => this.#windows[index] as Int32Array))
      const how = { products: this.#walk.products, signal: this.#signal }
      const [own] = await rowDivergences(this.#view.model.vocabulary, dense, [hidden], how)
      disposeDistribution(dense)
      hidden.dispose()
      disposeResidual(residual)
      for (const [row, value] of (own as Float64Array).entries()) {
        if (row % group.tokens === group.tokens - 1) continue
        sum += value
        rows += 1
      }
    }
    return sum / rows
  }

  dispose(): void {
    for (const { residual } of this.#trunk) disposeResidual(residual)
    this.#states.dispose()
    this.#walk.dispose()
    this.#denseWalk.dispose()
    this.#view.dispose()
  }
}

const cloned = ({ residual }: Branch): Branch['residual'] => ({ x: residual.x.clone(), source: residual.source.clone() })
