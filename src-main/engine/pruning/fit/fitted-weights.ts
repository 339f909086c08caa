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
import { type Equations, solveWithRidge } from '../repair/choose-ridge.ts'
import { makeEquations } from '../repair/make-equations.ts'
import type { FittedShape } from './programme.ts'

export const tableFitting = 'Fitting the table'

const weightsStep: StepKind = { version: 1 }
const shapesStep: StepKind = { version: 1 }

interface Lane extends Stream {
  readonly heldOut: boolean
}

export interface WidthPoints {
  /** Neurons of each block by falling score; the first ones are kept. */
  readonly orders: readonly (readonly number[])[]
  readonly base: number
  readonly widths: readonly number[]
}

/** The name of an MLP's down projection at a width of the table. */
export const widthName = (block: number, width: number): string => `table.${block}.width.${width}`
/** Its name at the base width, where it also takes over the attention after it. */
export const attentionName = (block: number): string => `table.${block}.attention`

/** The neurons kept at a width, in index order. */
export const keptAt = ({ orders }: WidthPoints, block: number, width: number): number[] =>
  at(orders, block)
    .slice(0, width)
    .sort((a, b) => a - b)

/** A down projection to solve for: its name, its width, and whether it also takes over the next attention's output. */
interface Wanted {
  readonly name: string
  readonly width: number
  readonly takesOver: boolean
}

/**
 * Repairs the down projections of every MLP in one pass of the dense model: for each width of the table, and at the base width for when the
 * next attention is removed. One step per block. The ridge is chosen at the base width.
 */
export async function fittedWeights(view: ModelView, windows: Windows, points: WidthPoints, run: MethodRun): Promise<StoredTensors> {
  const stored: StoredTensors[] = []
  await throughBlocks(view, windows, points, run, async (block, fitter) => {
    run.progress(tableFitting, block, view.spec.blocks.length, 'blocks')
    const wanted = [
      { name: replacedName(block, 'down', 'weight'), width: points.base, takesOver: false },
      ...(fitter.takesOver(block) ? [{ name: attentionName(block), width: points.base, takesOver: true }] : []),
      ...points.widths.map((width) => ({ name: widthName(block, width), width, takesOver: false })),
    ].filter(({ name }) => name !== widthName(block, points.base))
    const asked = { kind: weightsStep, label: `table: weights of block ${block}`, on: { windows, points: { ...points } } }
    stored.push((await run.tensorStep(asked, async () => ({ tensors: await fitter.solve(block, wanted, 'one') }))).tensors)
  })
  return StoredTensors.join(...stored)
}

/** Repairs the down projections of several shapes in one pass of the dense model, named as in a plan. One step per block and shape. */
export async function weightsOfShapes(
  view: ModelView,
  windows: Windows,
  points: WidthPoints,
  shapes: readonly FittedShape[],
  run: MethodRun,
): Promise<StoredTensors[]> {
  const stored = shapes.map((): StoredTensors[] => [])
  await throughBlocks(view, windows, points, run, async (block, fitter) => {
    const wanted = shapes.map(({ widths, removed }, index) => ({
      name: `${index}`,
      width: at(widths, block),
      takesOver: removed.includes(block + 1) && fitter.takesOver(block),
    }))
    let solved: Promise<Map<string, NamedTensor>> | undefined
    for (const [index, own] of stored.entries()) {
      const asked = { kind: shapesStep, label: `shape ${index}: weights of block ${block}`, on: { windows, points: { ...points }, wanted } }
      const { tensors } = await run.tensorStep(asked, async () => {
        solved ??= fitter.solve(block, wanted, 'own')
        const found = (await solved).get(`${index}`)
        return { tensors: new Map(found ? [[replacedName(block, 'down', 'weight'), found]] : []) }
      })
      own.push(tensors)
    }
  })
  return stored.map((own) => StoredTensors.join(...own))
}

async function throughBlocks(
  view: ModelView,
  windows: Windows,
  points: WidthPoints,
  { signal }: MethodRun,
  use: (block: number, fitter: Fitter) => Promise<void>,
): Promise<void> {
  const fitter = new Fitter(view, points, signal)
  try {
    await fitter.begin(windows)
    for (const block of view.spec.blocks.keys()) await use(block, fitter)
  } finally {
    fitter.dispose()
  }
}

/** Passes the dense model's streams through the blocks, each part once. Blocks whose step is already done are only passed through. */
class Fitter {
  readonly #view: ModelView
  readonly #walk: Walk
  readonly #points: WidthPoints
  readonly #signal: AbortSignal
  readonly #lanes: Lane[] = []
  /** The part that the lanes have reached. */
  #at: Part = 0

  constructor(view: ModelView, points: WidthPoints, signal: AbortSignal) {
    this.#view = view
    this.#walk = new Walk(view, view.model.products.passes)
    this.#points = points
    this.#signal = signal
  }

  /** Loads windows. The last eighth, at least one, is held out. */
  async begin(windows: Windows): Promise<void> {
    const heldOut = Math.max(1, Math.floor(windows.length / 8))
    for (const [index, own] of [windows.slice(0, -heldOut), windows.slice(-heldOut)].entries()) {
      for (const { ids, batch } of groupWindows(own)) this.#lanes.push({ ...(await this.#walk.embed(ids, batch)), heldOut: index === 1 })
    }
  }

  /** Solves with one ridge for all, chosen for the first entry of `wanted`, or with one per entry, chosen on the held-out windows. */
  async solve(block: number, wanted: readonly Wanted[], ridges: 'one' | 'own'): Promise<Map<string, NamedTensor>> {
    const part = mlpOf(block)
    for (const next of this.#view.parts.filter((one) => one >= this.#at && one < part)) {
      this.#signal.throwIfAborted()
      await this.#walk.pass(next, this.#lanes)
    }
    const taken = Math.max(0, ...wanted.filter(({ takesOver }) => takesOver).map(({ width }) => width))
    this.#at = taken > 0 ? part + 2 : part + 1
    const [own, taking] = [makePair(), makePair()]
    const { bias, weight } = await this.#down(block)
    const order = tensor1d([...at(this.#points.orders, block)], 'int32')
    for (let first = 0; first < this.#lanes.length; first += this.#together) {
      this.#signal.throwIfAborted()
      await this.#observe(block, this.#lanes.slice(first, first + this.#together), { own, taking, order, bias, taken })
    }
    const ordered = tidy(() => gather(weight, order, 1))
    const solved = this.#solveAll(block, wanted, { own, taking }, ordered, ridges)
    for (const one of [own.fitted, own.heldOut, taking.fitted, taking.heldOut, order, weight, bias, ordered]) one?.dispose()
    return solved
  }

  /** Whether a down projection can take over the next attention's output: not if they run side by side, or through a norm. */
  takesOver(block: number): boolean {
    const { spec } = this.#view
    const { mlpOutputNorm, attentionOutputNorm } = spec.block(block)
    return !spec.parallelResidual && !(mlpOutputNorm ?? attentionOutputNorm) && spec.blocks[block + 1]?.attention === true
  }

  /** Lanes that pass an MLP and the next attention together: as many as memory allows for the down projection's inputs. */
  get #together(): number {
    const rows = Math.max(...this.#lanes.map(({ residual }) => residual.x.shape[0]))
    return Math.max(1, Math.floor(this.#view.model.workspaceBytes / 2 / (4 * rows * at(this.#view.spec.blocks, 0).width)))
  }

  /** Passes lanes through the MLP, and through the next attention if its output is to be taken over, and adds them to the equations. */
  async #observe(block: number, lanes: readonly Lane[], { own, taking, order, bias, taken }: Observation): Promise<void> {
    const inputs: Tensor2D[] = []
    const before = lanes.map(({ residual }) => residual.x.clone())
    await this.#walk.pass(mlpOf(block), lanes, {
      signal: this.#signal,
      observe: ({ heldOut }, { inner, output }) => {
        const sorted = gather(inner, order, 1)
        own[heldOut ? 'heldOut' : 'fitted'].add(sorted, bias ? sub<Tensor2D>(output as Tensor2D, bias) : (output as Tensor2D))
        if (taken > 0) inputs.push(keep(slice(sorted, [0, 0], [-1, taken])))
      },
    })
    if (taken > 0) await this.#walk.pass(attentionOf(block + 1), lanes, { signal: this.#signal })
    const scale = 1 / (this.#view.spec.residualScale ?? 1)
    for (const [index, input] of inputs.entries()) {
      tidy(() => {
        const { residual, heldOut } = at(lanes, index)
        const missing = mul<Tensor2D>(sub(residual.x, at(before, index)), scale)
        taking[heldOut ? 'heldOut' : 'fitted'].add(input, bias ? sub<Tensor2D>(missing, bias) : missing)
      })
      input.dispose()
    }
    for (const x of before) x.dispose()
  }

  #solveAll(
    block: number,
    wanted: readonly Wanted[],
    { own, taking }: Pick<Observation, 'own' | 'taking'>,
    ordered: Tensor2D,
    ridges: 'one' | 'own',
  ): Map<string, NamedTensor> {
    const tensors = new Map<string, NamedTensor>()
    let shared: number | undefined
    for (const { name, width, takesOver } of wanted) {
      if (width === ordered.shape[1] && !takesOver && (ridges === 'own' || shared !== undefined)) continue
      const old = slice(ordered, [0, 0], [-1, width])
      const { fitted, heldOut } = takesOver ? taking : own
      const equations = { fitted: fitted.leading(width), heldOut: heldOut.leading(width) }
      const { ridge, weight } = solveAt(equations, old, shared)
      if (ridges === 'one') shared = ridge
      for (const one of [old, equations.fitted, equations.heldOut]) one.dispose()
      if (!weight) continue
      tensors.set(name, { values: this.#inIndexOrder(block, weight, width), shape: [weight.shape[0], width] })
      weight.dispose()
    }
    return tensors
  }

  /** Reorders columns from score order to index order. */
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

/**
 * Solves at the given ridge, or at the one that the held-out windows choose. No weight if the old one does better there. Consumes the
 * equations.
 */
function solveAt(equations: Equations, old: Tensor2D, ridge: number | undefined): { ridge: number; weight: Tensor2D | undefined } {
  if (ridge === undefined) {
    const { judged, ...solved } = solveWithRidge(equations, old)
    judged.dispose()
    return solved
  }
  equations.fitted.merge(equations.heldOut)
  return { ridge, weight: equations.fitted.solve(old, [ridge])[0] }
}

const makePair = (): Equations => ({ fitted: makeEquations(), heldOut: makeEquations() })

interface Observation {
  /** For the down projection's output alone, and together with the next attention's. */
  readonly own: Equations
  readonly taking: Equations
  /** Neurons by falling score. */
  readonly order: Tensor1D
  readonly bias: Tensor1D | undefined
  /** Neurons of the widest MLP that takes over the next attention; 0 if none does. */
  readonly taken: number
}
