import { add, keep, mul, sub, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { type NamedTensors, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { disposeResidual } from '#engine/model/parts/part.ts'
import { productsOfFewDigits } from '#engine/model/precision.ts'
import { lastProjection, replacedName, storedDtype } from '#engine/model/views/plan-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { type Stream, Walk } from '#engine/model/walk.ts'
import { attentionOf, type MlpWeights, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { correlate } from '#engine/tensor/products.ts'
import { columnSums } from '#engine/tensor/sums.ts'
import type { MethodRun } from '../method.ts'
import { solveWithRidge } from '../repair/choose-ridge.ts'
import { largest } from '../selection.ts'
import { DownFit } from './down-fit.ts'

export const tableSumming = 'Fitting the table'

const sumsStep: StepKind = { version: 1, reach: 'shared' }

/**
 * The results of one pass of the dense model: what it takes to score the neurons of every block and to repair its down projection at any
 * width.
 */
export interface BlockSums {
  readonly blocks: readonly BlockFigures[]
  /** The sums, and the repaired down projections at the base width, named as in a plan. */
  readonly tensors: StoredTensors
}

interface BlockFigures {
  /** Mean over windows of each neuron's L2 norm, [I], as 2SSP scores them. */
  readonly norms: readonly number[]
  /** Null if fitted weights do no better on the held-out windows than the old ones, which then stay at every width. */
  readonly ridge: number | null
}

/** Names the products of a block's neurons with themselves: the upper half of [I, I]. */
const gramName = (block: number): string => `blocks.${block}.neurons`
/** Names the products of the next attention's outputs with a block's neurons: [D, I]. */
const nextName = (block: number): string => `blocks.${block}.next`

/**
 * Passes windows through the dense model once and sums what the down projections read. Each block is one step. Neurons may be rounded to 16
 * bits in these products, which is like a ridge of a millionth; the smallest ridge that is tried is a hundredth.
 * @param base the width at which ridges are chosen, on the last eighth of the windows, at least one
 */
export async function sumBlocks(view: ModelView, windows: Windows, base: number, run: MethodRun): Promise<BlockSums> {
  const pass = new SummingPass(view, windows, base, run.signal)
  const { blocks } = view.spec
  try {
    const [figures, stored]: [BlockFigures[], StoredTensors[]] = [[], []]
    for (const block of blocks.keys()) {
      run.progress(tableSumming, block, blocks.length, 'blocks')
      const asked = { kind: sumsStep, label: `table: sums of block ${block}`, on: { windows, base } }
      const { tensors, ...own } = await run.tensorStep(asked, () => pass.block(block))
      figures.push(own)
      stored.push(tensors)
    }
    return { blocks: figures, tensors: StoredTensors.join(...stored) }
  } finally {
    pass.dispose()
  }
}

/** Returns a block's down projection with its sums. The caller disposes of it. */
export async function openFit(view: ModelView, { tensors, blocks }: BlockSums, block: number): Promise<DownFit> {
  const { norms, ridge } = at(blocks, block)
  const shape = tensors.tensors.get(nextName(block))?.shape as [number, number] | undefined
  const gram = tensor2d(bothHalves(await tensors.readFloat32(gramName(block)), norms.length), [norms.length, norms.length])
  const next = shape && tensor2d(await tensors.readFloat32(nextName(block)), shape)
  return new DownFit(await downOf(view, block), gram, { next, ridge })
}

/** Returns the weights of a block's down projection, [D, I], which the caller disposes of. */
async function downOf(view: ModelView, block: number): Promise<Tensor2D> {
  const part = mlpOf(block)
  const weights = await view.lease(part)
  const down = (weights.mlp as MlpWeights).down.clone()
  view.release(part, weights)
  return down
}

/**
 * Whether a down projection can take over the next attention's output. It cannot if attention and MLP run in parallel, or if a norm follows
 * either of them.
 */
function takesOver(spec: DecoderSpec, block: number): boolean {
  const { mlpOutputNorm, attentionOutputNorm } = spec.block(block)
  return !spec.parallelResidual && !(mlpOutputNorm ?? attentionOutputNorm) && spec.blocks[block + 1]?.attention === true
}

interface Lane extends Stream {
  readonly heldOut: boolean
}

/**
 * Takes the streams of the dense model through the blocks and sums what their down projections read. Blocks whose step is already done are
 * only passed through.
 */
class SummingPass {
  readonly #view: ModelView
  readonly #windows: Windows
  readonly #base: number
  readonly #signal: AbortSignal
  readonly #walk: Walk
  readonly #lanes: Lane[] = []
  /** The part that the lanes have reached. */
  #at: Part = 0

  constructor(view: ModelView, windows: Windows, base: number, signal: AbortSignal) {
    this.#view = view
    this.#windows = windows
    this.#base = base
    this.#signal = signal
    this.#walk = new Walk(view, productsOfFewDigits(view.model.products))
  }

  async block(block: number): Promise<BlockFigures & { tensors: NamedTensors }> {
    await this.#upTo(mlpOf(block))
    const sums = new Sums(at(this.#view.spec.blocks, block).width)
    const taking = takesOver(this.#view.spec, block)
    for (let first = 0; first < this.#lanes.length; first += this.#lanesAtOnce) {
      this.#signal.throwIfAborted()
      await this.#observe(block, this.#lanes.slice(first, first + this.#lanesAtOnce), sums, taking)
    }
    this.#at = mlpOf(block) + (taking ? 2 : 1)
    const norms = [...sums.norms].map((sum) => sum / this.#windows.length)
    const { ridge, repaired } = this.#repair(block, await downOf(this.#view, block), sums, largest(norms, this.#base).indices)
    return { norms, ridge, tensors: new Map([...repaired, ...sums.take(block)]) }
  }

  /** Moves the lanes to a part. The windows are embedded on the first call. */
  async #upTo(part: Part): Promise<void> {
    if (this.#lanes.length === 0) {
      const heldOut = Math.max(1, Math.floor(this.#windows.length / 8))
      for (const [index, windows] of [this.#windows.slice(0, -heldOut), this.#windows.slice(-heldOut)].entries()) {
        for (const { ids, batch } of groupWindows(windows))
          this.#lanes.push({ ...(await this.#walk.embed(ids, batch)), heldOut: index === 1 })
      }
    }
    for (const next of this.#view.parts.filter((one) => one >= this.#at && one < part)) {
      this.#signal.throwIfAborted()
      await this.#walk.pass(next, this.#lanes)
    }
  }

  /** How many lanes may pass an MLP and the next attention at once. Memory must hold their inputs of the down projection. */
  get #lanesAtOnce(): number {
    const rows = Math.max(...this.#lanes.map(({ residual }) => residual.x.shape[0]))
    return Math.max(1, Math.floor(this.#view.model.workspaceBytes / 2 / (4 * rows * at(this.#view.spec.blocks, 0).width)))
  }

  /**
   * Passes lanes through the MLP, and through the next attention if its output may be taken over. Adds the products of what they show to
   * the sums.
   */
  async #observe(block: number, lanes: readonly Lane[], sums: Sums, taking: boolean): Promise<void> {
    const { spec } = this.#view
    const { products } = this.#walk
    const inputs: Tensor2D[] = []
    await this.#walk.pass(mlpOf(block), lanes, {
      signal: this.#signal,
      observe: ({ heldOut, batch, tokens }, { inner }) => {
        sums.addNorms(columnSums(inner, batch, tokens, 'squares'))
        sums.add(heldOut ? 'heldOut' : 'fitted', keep(correlate(inner, inner, products)))
        if (taking) inputs.push(keep(inner.clone()))
      },
    })
    if (!taking) return
    const before = lanes.map(({ residual }) => residual.x.clone())
    await this.#walk.pass(attentionOf(block + 1), lanes, { signal: this.#signal })
    for (const [index, { residual }] of lanes.entries()) {
      const outputs = () => mul<Tensor2D>(sub(residual.x, at(before, index)), 1 / (spec.residualScale ?? 1))
      sums.add(
        'next',
        tidy(() => correlate(outputs(), at(inputs, index), products)),
      )
    }
    for (const one of [...inputs, ...before]) one.dispose()
  }

  /** Chooses the ridge at the base width on the held-out windows, and repairs the projection there. Disposes of `down`. */
  #repair(block: number, down: Tensor2D, sums: Sums, kept: readonly number[]): { ridge: number | null; repaired: NamedTensors } {
    const [fitted, heldOut] = [new DownFit(down.clone(), sums.of('fitted').clone()), new DownFit(down, sums.of('heldOut').clone())]
    const equations = { fitted: fitted.equations(kept), heldOut: heldOut.equations(kept) }
    const old = fitted.old(kept)
    const { ridge, weight, judged } = solveWithRidge(equations, old)
    for (const one of [judged, old, equations.fitted, equations.heldOut, fitted, heldOut]) one.dispose()
    if (!weight) return { ridge: null, repaired: new Map() }
    const { model } = this.#view
    const dtype = storedDtype(model.checkpoint, lastProjection(model.spec, block, 'down').weight)
    const values = weight.dataSync() as Float32Array
    weight.dispose()
    return { ridge, repaired: new Map([[replacedName(block, 'down', 'weight'), { values, shape: weight.shape, dtype }]]) }
  }

  dispose(): void {
    for (const { residual } of this.#lanes) disposeResidual(residual)
    this.#walk.dispose()
  }
}

type SumName = 'fitted' | 'heldOut' | 'next'

/**
 * The sums of one block over rows. `fitted` and `heldOut`: neurons times themselves, on the windows for fitting and on the held-out ones.
 * `next`: the outputs of the next attention times the neurons.
 */
class Sums {
  /** Each neuron's L2 norm, summed over windows. */
  readonly norms: Float64Array
  readonly #sums = new Map<SumName, Tensor2D>()

  constructor(width: number) {
    this.norms = new Float64Array(width)
  }

  /** Adds the norms of some windows, given sums of squares [B, I]. */
  addNorms(squares: ArrayLike<number>): void {
    const width = this.norms.length
    for (let i = 0; i < squares.length; i++) this.norms[i % width] = at(this.norms, i % width) + Math.sqrt(at(squares, i))
  }

  /** Adds products and takes ownership of them. */
  add(name: SumName, products: Tensor2D): void {
    const before = this.#sums.get(name)
    this.#sums.set(name, before ? keep(add<Tensor2D>(before, products)) : products)
    if (!before) return
    before.dispose()
    products.dispose()
  }

  of(name: SumName): Tensor2D {
    return this.#sums.get(name) as Tensor2D
  }

  /** Returns the sums over all windows as a step stores them, and disposes of them. */
  take(block: number): NamedTensors {
    const gram: Tensor2D = add(this.of('fitted'), this.of('heldOut'))
    // Vectors are read when the file is opened. A matrix of one row is read only when it is needed.
    const upper = upperHalf(gram.dataSync() as Float32Array, this.norms.length)
    const next = this.#sums.get('next')
    const values = next?.dataSync() as Float32Array | undefined
    for (const one of [gram, ...this.#sums.values()]) one.dispose()
    return new Map([
      [gramName(block), { values: upper, shape: [1, upper.length] }],
      ...(next && values ? ([[nextName(block), { values, shape: next.shape }]] as const) : []),
    ])
  }
}

/** Returns the entries of a symmetric matrix from the diagonal to the right, row by row. */
function upperHalf(matrix: Float32Array, size: number): Float32Array {
  const half = new Float32Array((size * (size + 1)) / 2)
  for (let row = 0, to = 0; row < size; to += size - row++) half.set(matrix.subarray(row * size + row, (row + 1) * size), to)
  return half
}

function bothHalves(half: Float32Array, size: number): Float32Array {
  const matrix = new Float32Array(size * size)
  for (let row = 0, from = 0; row < size; from += size - row++) {
    const entries = half.subarray(from, from + size - row)
    matrix.set(entries, row * size + row)
    for (const [offset, value] of entries.entries()) matrix[(row + offset) * size + row] = value
  }
  return matrix
}
