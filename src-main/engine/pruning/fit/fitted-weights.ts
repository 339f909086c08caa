import { gather, mul, slice, sub, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { type NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { disposeResidual } from '#engine/model/decoder.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { type Stream, Walk } from '#engine/model/walk.ts'
import { attentionOf, type MlpWeights, mlpOf } from '#engine/model/weights/weights.ts'
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
  const walk = new Walk(view, view.model.products.passes)
  const lanes: Lane[] = []
  const stored: StoredTensors[] = []
  try {
    const heldOut = Math.max(1, Math.floor(windows.length / 8))
    for (const [index, own] of [windows.slice(0, -heldOut), windows.slice(-heldOut)].entries()) {
      for (const { ids, batch } of groupWindows(own)) lanes.push({ ...(await walk.embed(ids, batch)), heldOut: index === 1 })
    }
    for (const block of view.spec.blocks.keys()) {
      run.signal.throwIfAborted()
      run.progress(tableFitting, block, view.spec.blocks.length, 'blocks')
      const fitter = new BlockFitter(view, walk, lanes, block, points)
      const asked = { kind: weightsStep, label: `table: weights of block ${block}`, on: { windows, points: { ...points } } }
      const { tensors } = await run.tensorStep(asked, async () => ({ tensors: await fitter.solve() }))
      await fitter.leave()
      stored.push(tensors)
    }
    return StoredTensors.join(...stored)
  } finally {
    for (const { residual } of lanes) disposeResidual(residual)
    walk.dispose()
  }
}

/** One block's equations: lanes are in front of the block, and behind it after `leave`. */
class BlockFitter {
  readonly #view: ModelView
  readonly #walk: Walk
  readonly #lanes: Lane[]
  readonly #block: number
  readonly #points: WidthPoints
  #entered = false

  constructor(view: ModelView, walk: Walk, lanes: Lane[], block: number, points: WidthPoints) {
    this.#view = view
    this.#walk = walk
    this.#lanes = lanes
    this.#block = block
    this.#points = points
  }

  async #enter(): Promise<void> {
    if (this.#entered) return
    this.#entered = true
    if (this.#view.spec.blocks[this.#block]?.attention) await this.#walk.pass(attentionOf(this.#block), this.#lanes)
  }

  async leave(): Promise<void> {
    await this.#enter()
    await this.#walk.pass(mlpOf(this.#block), this.#lanes)
  }

  async solve(): Promise<Map<string, NamedTensor>> {
    await this.#enter()
    const [fitted, heldOut, taking] = [makeEquations(), makeEquations(), makeEquations()]
    const { bias, weight } = await this.#down()
    const order = tensor1d([...at(this.#points.orders, this.#block)], 'int32')
    const ahead = this.#lanes.map((lane) => ({ ...lane, residual: { x: lane.residual.x.clone(), source: lane.residual.source.clone() } }))
    await this.#walk.pass(mlpOf(this.#block), ahead, {
      observe: ({ heldOut: held }, { inner, output }) => {
        const given = bias ? sub<Tensor2D>(output as Tensor2D, bias) : (output as Tensor2D)
        ;(held ? heldOut : fitted).add(gather(inner, order, 1), given)
      },
    })
    const owed = await this.#attentionOutputs(ahead)
    if (owed) {
      const narrow = tensor1d(at(this.#points.orders, this.#block).slice(0, this.#points.base), 'int32')
      await this.#walk.look(mlpOf(this.#block), this.#lanes, {
        observe: (lane, { inner }) => {
          const missing = owed[this.#lanes.indexOf(lane as Lane)] as Tensor2D
          tidy(() => taking.add(gather(inner, narrow, 1), missing))
        },
      })
      narrow.dispose()
    }
    for (const x of owed ?? []) x.dispose()
    for (const { residual } of ahead) disposeResidual(residual)
    const solved = this.#solveAll(
      { fitted, heldOut, taking: owed && taking },
      tidy(() => gather(weight, order, 1)),
    )
    for (const equations of [fitted, heldOut, taking]) equations.dispose()
    for (const tensor of [order, weight, bias]) tensor?.dispose()
    return solved
  }

  /**
   * What the way down must give when the next attention goes, per lane; undefined where none follows, or where attention runs beside its
   * MLP or through a norm, so that its price is taken without it.
   */
  async #attentionOutputs(ahead: Lane[]): Promise<Tensor2D[] | undefined> {
    const { spec } = this.#view
    const next = this.#block + 1
    const normed = spec.block(this.#block).mlpOutputNorm ?? spec.block(this.#block).attentionOutputNorm
    if (spec.parallelResidual || normed || !spec.blocks[next]?.attention) return undefined
    const { bias, weight } = await this.#down()
    weight.dispose()
    await this.#walk.pass(attentionOf(next), ahead)
    const scale = 1 / (spec.residualScale ?? 1)
    const owed = ahead.map(({ residual }, index) =>
      tidy(() => {
        const missing = mul<Tensor2D>(sub(residual.x, (this.#lanes[index] as Lane).residual.x), scale)
        return bias ? sub<Tensor2D>(missing, bias) : missing
      }),
    )
    bias?.dispose()
    return owed
  }

  #solveAll(
    { fitted, heldOut, taking }: { fitted: NormalEquations; heldOut: NormalEquations; taking: NormalEquations | undefined },
    ordered: Tensor2D,
  ): Map<string, NamedTensor> {
    const { base, widths } = this.#points
    const tensors = new Map<string, NamedTensor>()
    const put = (name: string, solved: Tensor2D | undefined, width: number) => {
      if (!solved) return
      tensors.set(name, { values: this.#inIndexOrder(solved, width), shape: [solved.shape[0], width] })
      solved.dispose()
    }
    const first = (width: number) => slice(ordered, [0, 0], [-1, width])
    const old = first(base)
    const narrow = { fitted: fitted.leading(base), heldOut: heldOut.leading(base) }
    const { ridge, weight, judged } = solveWithRidge(narrow, old)
    judged.dispose()
    put(replacedName(this.#block, 'down', 'weight'), weight, base)
    if (taking) put(attentionName(this.#block), taking.solve(old, [ridge])[0], base)
    old.dispose()
    narrow.fitted.dispose()
    narrow.heldOut.dispose()
    fitted.merge(heldOut)
    for (const width of widths.filter((width) => width !== base && width < ordered.shape[1])) {
      const own = first(width)
      const equations = fitted.leading(width)
      put(widthName(this.#block, width), equations.solve(own, [ridge])[0], width)
      equations.dispose()
      own.dispose()
    }
    ordered.dispose()
    return tensors
  }

  /** Columns by score, as columns by index. */
  #inIndexOrder(solved: Tensor2D, width: number): Float32Array {
    const order = at(this.#points.orders, this.#block).slice(0, width)
    const places = [...order.keys()].sort((a, b) => at(order, a) - at(order, b))
    const sorted = tidy(() => gather(solved, tensor1d(places, 'int32'), 1))
    const values = sorted.dataSync() as Float32Array
    sorted.dispose()
    return values
  }

  async #down(): Promise<{ weight: Tensor2D; bias: Tensor1D | undefined }> {
    const part = mlpOf(this.#block)
    const weights = await this.#view.lease(part)
    const mlp = weights.mlp as MlpWeights
    const own = { weight: mlp.down.clone(), bias: mlp.downBias?.clone() }
    this.#view.release(part, weights)
    return own
  }
}
