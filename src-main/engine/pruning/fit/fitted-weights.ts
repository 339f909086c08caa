import { gather, keep, mul, slice, sub, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { type NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { disposeResidual } from '#engine/model/decoder.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { type Stream, Walk } from '#engine/model/walk.ts'
import { attentionOf, type MlpWeights, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodRun } from '../method.ts'
import { solveWithRidge } from '../repair/choose-ridge.ts'
import { makeEquations } from '../repair/make-equations.ts'
import type { NormalEquations } from '../repair/normal-equations.ts'

export const tableFitting = 'Fitting the table'

const weightsStep: StepKind = { version: 1 }

interface Lane extends Stream {
  readonly heldOut: boolean
}

export interface WidthPoints {
  /** Neurons of each block by falling score: the first ones stay. */
  readonly orders: readonly (readonly number[])[]
  readonly base: number
  readonly widths: readonly number[]
}

/** The tensor that an MLP's way down becomes at a width of the table. */
export const widthName = (block: number, width: number): string => `table.${block}.width.${width}`
/** The same at the base width, where it takes over the attention behind it. */
export const attentionName = (block: number): string => `table.${block}.attention`

/** The neurons that stay at a width, in index order. */
export const keptAt = ({ orders }: WidthPoints, block: number, width: number): number[] =>
  at(orders, block)
    .slice(0, width)
    .sort((a, b) => a - b)

/**
 * The ways down of every MLP, repaired in one pass of the dense model for each width of the table, and at the base width for when the
 * next attention goes. One step for each block. The ridge is chosen at the base width.
 */
export async function fittedWeights(view: ModelView, windows: Windows, points: WidthPoints, run: MethodRun): Promise<StoredTensors> {
  const fitter = new Fitter(view, points, run.signal)
  const stored: StoredTensors[] = []
  try {
    await fitter.begin(windows)
    for (const block of view.spec.blocks.keys()) {
      run.progress(tableFitting, block, view.spec.blocks.length, 'blocks')
      const asked = { kind: weightsStep, label: `table: weights of block ${block}`, on: { windows, points: { ...points } } }
      const { tensors } = await run.tensorStep(asked, async () => ({ tensors: await fitter.solve(block) }))
      stored.push(tensors)
    }
    return StoredTensors.join(...stored)
  } finally {
    fitter.dispose()
  }
}

/** The dense model's streams on their way through the blocks, past each part once; blocks whose step is found done are only passed. */
class Fitter {
  readonly #view: ModelView
  readonly #walk: Walk
  readonly #points: WidthPoints
  readonly #signal: AbortSignal
  readonly #lanes: Lane[] = []
  /** The part that the lanes are in front of. */
  #at: Part = 0

  constructor(view: ModelView, points: WidthPoints, signal: AbortSignal) {
    this.#view = view
    this.#walk = new Walk(view, view.model.products.passes)
    this.#points = points
    this.#signal = signal
  }

  /** Takes windows in; the last eighth of them, at least one, is held out. */
  async begin(windows: Windows): Promise<void> {
    const heldOut = Math.max(1, Math.floor(windows.length / 8))
    for (const [index, own] of [windows.slice(0, -heldOut), windows.slice(-heldOut)].entries()) {
      for (const { ids, batch } of groupWindows(own)) this.#lanes.push({ ...(await this.#walk.embed(ids, batch)), heldOut: index === 1 })
    }
  }

  async solve(block: number): Promise<Map<string, NamedTensor>> {
    const part = mlpOf(block)
    for (const next of this.#view.parts.filter((one) => one >= this.#at && one < part)) {
      this.#signal.throwIfAborted()
      await this.#walk.pass(next, this.#lanes)
    }
    const owes = this.#takesOver(block)
    this.#at = owes ? part + 2 : part + 1
    const equations = { fitted: makeEquations(), heldOut: makeEquations(), taking: makeEquations() }
    const { bias, weight } = await this.#down(block)
    const order = tensor1d([...at(this.#points.orders, block)], 'int32')
    for (let first = 0; first < this.#lanes.length; first += this.#together) {
      this.#signal.throwIfAborted()
      await this.#observe(block, this.#lanes.slice(first, first + this.#together), { equations, order, bias, owes })
    }
    const ordered = tidy(() => gather(weight, order, 1))
    const solved = this.#solveAll(block, { ...equations, taking: owes ? equations.taking : undefined }, ordered)
    for (const sums of Object.values(equations)) sums.dispose()
    for (const tensor of [order, weight, bias]) tensor?.dispose()
    return solved
  }

  /** Whether a way down can give what the next attention gave: not where they run side by side, or through a norm. */
  #takesOver(block: number): boolean {
    const { spec } = this.#view
    const { mlpOutputNorm, attentionOutputNorm } = spec.block(block)
    return !spec.parallelResidual && !(mlpOutputNorm ?? attentionOutputNorm) && spec.blocks[block + 1]?.attention === true
  }

  /** Lanes that pass an MLP and the next attention together: as many as there is room to keep what the way down read. */
  get #together(): number {
    const rows = Math.max(...this.#lanes.map(({ residual }) => residual.x.shape[0]))
    return Math.max(1, Math.floor(this.#view.model.workspaceBytes / 2 / (4 * rows * this.#points.base)))
  }

  /** Takes lanes past the MLP, and past the next attention where its output is owed, and adds what they show to the equations. */
  async #observe(block: number, lanes: readonly Lane[], { equations, order, bias, owes }: Observation): Promise<void> {
    const inputs: Tensor2D[] = []
    const before = lanes.map(({ residual }) => residual.x.clone())
    await this.#walk.pass(mlpOf(block), lanes, {
      signal: this.#signal,
      observe: ({ heldOut }, { inner, output }) => {
        const sorted = gather(inner, order, 1)
        equations[heldOut ? 'heldOut' : 'fitted'].add(sorted, bias ? sub<Tensor2D>(output as Tensor2D, bias) : (output as Tensor2D))
        if (owes) inputs.push(keep(slice(sorted, [0, 0], [-1, this.#points.base])))
      },
    })
    if (owes) await this.#walk.pass(attentionOf(block + 1), lanes, { signal: this.#signal })
    const scale = 1 / (this.#view.spec.residualScale ?? 1)
    for (const [index, input] of inputs.entries()) {
      tidy(() => {
        const missing = mul<Tensor2D>(sub(at(lanes, index).residual.x, at(before, index)), scale)
        equations.taking.add(input, bias ? sub<Tensor2D>(missing, bias) : missing)
      })
      input.dispose()
    }
    for (const x of before) x.dispose()
  }

  #solveAll(
    block: number,
    { fitted, heldOut, taking }: { fitted: NormalEquations; heldOut: NormalEquations; taking: NormalEquations | undefined },
    ordered: Tensor2D,
  ): Map<string, NamedTensor> {
    const { base, widths } = this.#points
    const tensors = new Map<string, NamedTensor>()
    const put = (name: string, solved: Tensor2D | undefined, width: number) => {
      if (!solved) return
      tensors.set(name, { values: this.#inIndexOrder(block, solved, width), shape: [solved.shape[0], width] })
      solved.dispose()
    }
    const first = (width: number) => slice(ordered, [0, 0], [-1, width])
    const old = first(base)
    const narrow = { fitted: fitted.leading(base), heldOut: heldOut.leading(base) }
    const { ridge, weight, judged } = solveWithRidge(narrow, old)
    judged.dispose()
    put(replacedName(block, 'down', 'weight'), weight, base)
    if (taking) put(attentionName(block), taking.solve(old, [ridge])[0], base)
    old.dispose()
    narrow.fitted.dispose()
    narrow.heldOut.dispose()
    fitted.merge(heldOut)
    for (const width of widths.filter((width) => width !== base && width < ordered.shape[1])) {
      const own = first(width)
      const equations = fitted.leading(width)
      put(widthName(block, width), equations.solve(own, [ridge])[0], width)
      equations.dispose()
      own.dispose()
    }
    ordered.dispose()
    return tensors
  }

  /** Columns by score, as columns by index. */
  #inIndexOrder(block: number, solved: Tensor2D, width: number): Float32Array {
    const order = at(this.#points.orders, block).slice(0, width)
    const places = [...order.keys()].sort((a, b) => at(order, a) - at(order, b))
    const sorted = tidy(() => gather(solved, tensor1d(places, 'int32'), 1))
    const values = sorted.dataSync() as Float32Array
    sorted.dispose()
    return values
  }

  async #down(block: number): Promise<{ weight: Tensor2D; bias: Tensor1D | undefined }> {
    const part = mlpOf(block)
    const weights = await this.#view.lease(part)
    const mlp = weights.mlp as MlpWeights
    const own = { weight: mlp.down.clone(), bias: mlp.downBias?.clone() }
    this.#view.release(part, weights)
    return own
  }

  dispose(): void {
    for (const { residual } of this.#lanes) disposeResidual(residual)
    this.#walk.dispose()
  }
}

interface Observation {
  readonly equations: Record<'fitted' | 'heldOut' | 'taking', NormalEquations>
  /** Neurons by falling score. */
  readonly order: Tensor1D
  readonly bias: Tensor1D | undefined
  /** Whether the next attention's output is taken over. */
  readonly owes: boolean
}
