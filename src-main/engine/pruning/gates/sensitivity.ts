import { matMul, mul, reshape, slice, softmax, square, sub, sum, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { NamedTensors, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { type HeadChunk, headLogits } from '#engine/model/parts/head/embedding-and-head.ts'
import { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import { productsForTraining } from '#engine/model/precision.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { Part } from '#engine/model/weights/weights.ts'
import { requireWholeHead } from '../recovery/recovery-budget.ts'
import { gradientsOfGates } from './collect-gradients.ts'
import { listGates } from './gate-list.ts'
import { GatePass } from './gate-pass.ts'
import { type ObservedProjection, observedProjections } from './observed.ts'
import { gateRoom } from './room.ts'

/**
 * How much an error in each entry of a matrix [R, C] changes the model's answers: about rows[r] * columns[c] / total. This has the marginals
 * of the diagonal of the Fisher matrix, summed over tokens (Martens and Grosse 2015, arXiv 1503.05671, with diagonal factors).
 */
export interface Sensitivity {
  readonly rows: Float64Array
  readonly columns: Float64Array
  readonly total: number
}

class Sums implements Sensitivity {
  readonly rows: Float64Array
  readonly columns: Float64Array
  total = 0

  constructor(rows: number, columns: number) {
    this.rows = new Float64Array(rows)
    this.columns = new Float64Array(columns)
  }

  /**
   * Adds tokens with inputs [N, C] and squared gradients of outputs [N, R], which are those of the rows from `first`. `ofGradients` has the
   * sum of each row of these, [N].
   */
  add(inputs: Tensor2D, squares: Tensor2D, ofGradients: Tensor1D, first = 0): void {
    const x = square(inputs)
    const ofInputs = sum<Tensor1D>(x, 1)
    const row = (values: Tensor1D): Tensor2D => reshape(values, [1, -1])
    addTo(this.rows.subarray(first, first + squares.shape[1]), matMul(row(ofInputs), squares).dataSync())
    addTo(this.columns, matMul(row(ofGradients), x).dataSync())
    this.total += at(sum(mul(ofInputs, ofGradients)).dataSync(), 0)
  }
}

function addTo(sums: Float64Array, values: ArrayLike<number>): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + (values[i] as number)
}

export interface Sensitivities {
  readonly parts: ReadonlyMap<Part, Readonly<Partial<Record<ObservedProjection, Sensitivity>>>>
  readonly head: Sensitivity
  /** Of the embedding as the input of the first block. */
  readonly embedding: Sensitivity
  /** The divergence in nats per token that closing each gate of the view is estimated to cost, in the order of `listGates`. */
  readonly gates: Float64Array
}

interface Report {
  readonly signal: AbortSignal
  progress(done: number, total: number): void
}

/**
 * Measures how much errors in each matrix change the model's answers: squared gradients of the log-likelihood of tokens that are drawn from
 * the model's own distribution (true Fisher). Half the sum of sensitivities times squared errors estimates the divergence summed over tokens.
 */
export async function measureSensitivities(
  view: ModelView,
  windows: Windows,
  random: () => number,
  report: Report,
): Promise<Sensitivities> {
  const { vocabulary } = view.model
  requireWholeHead(vocabulary.inOneChunk, view.spec)
  let found: Sensitivities | undefined
  // The head of a model that is streamed is in memory only during the call.
  await vocabulary.forEachHeadChunk(async (chunk) => {
    found = await passWindows(view, chunk, windows, random, report)
  })
  return found as Sensitivities
}

async function passWindows(
  view: ModelView,
  chunk: HeadChunk,
  windows: Windows,
  random: () => number,
  report: Report,
): Promise<Sensitivities> {
  const { spec, model } = view
  const { vocabulary } = model
  const products = view.takesBf16 ? productsForTraining() : 'float32'
  const parts = new Map<Part, Partial<Record<ObservedProjection, Sums>>>()
  const ofHead = new Sums(vocabulary.size, spec.hidden)
  const embedding = new Sums(vocabulary.size, spec.hidden)
  const list = listGates(spec)
  const gates = new Float64Array(list.count)
  const head = new FrozenHead(chunk, products)
  let ids: Int32Array = new Int32Array()
  const pass = new GatePass(view, head, {
    products,
    keeps: gateRoom(view, at(windows, 0).length, 1).keeps,
    signal: report.signal,
    observe(part, { projection, inputs, gradient, expert = { index: 0, of: 1 } }) {
      const own = parts.get(part) ?? {}
      const [rows, columns] = [gradient.shape[1], inputs.shape[1]]
      // The rows of all experts are one matrix.
      own[projection] ??= new Sums(expert.of * rows, columns)
      const sums = own[projection]
      tidy(() => {
        const squares = square(gradient)
        sums.add(inputs, squares, sum(squares, 1), expert.index * rows)
      })
      parts.set(part, own)
    },
    observeFirst: (gradient) => addEmbedding(embedding, ids, gradient, (spec.embeddingScale ?? 1) ** 2),
  })
  try {
    for (const [index, window] of windows.entries()) {
      report.progress(index, windows.length)
      ids = Int32Array.from(window)
      const targets = async (states: Tensor2D) => drawTokens(states, chunk, random, ofHead)
      const found = await pass.gradients({ ids, batch: 1, targets }, 1, () => ({ output: 1 }))
      addTo(gates, at(gradientsOfGates(list, found), 0).map(halfSquare))
    }
  } finally {
    pass.dispose()
    head.dispose()
  }
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  return { parts, head: ofHead, embedding, gates: gates.map((sum) => sum / tokens) }
}

/** The second-order term of the divergence that closing a gate causes, from the gradient of a window's log-likelihood. */
const halfSquare = (gradient: number): number => gradient ** 2 / 2

/** Adds the gradients of the first stream [N, D]: each row of the embedding is the input of one token. */
function addEmbedding(sums: Sums, ids: Int32Array, gradient: Tensor2D, scale: number): void {
  const values = gradient.dataSync()
  const { columns, rows } = sums
  for (const [token, id] of ids.entries()) {
    let all = 0
    for (let i = 0; i < columns.length; i++) {
      const own = scale * (values[token * columns.length + i] as number) ** 2
      all += own
      columns[i] = (columns[i] as number) + own
    }
    rows[id] = at(rows, id) + all
    sums.total += all
  }
}

const rowsAtOnce = 64

/**
 * Draws a token from the distribution at each final state [N, D]. Adds the sensitivity of the head, whose expectation over drawn tokens is
 * known: p (1 - p).
 */
function drawTokens(states: Tensor2D, chunk: HeadChunk, random: () => number, head: Sums): Int32Array {
  const [count] = states.shape
  const drawn = new Int32Array(count)
  for (let first = 0; first < count; first += rowsAtOnce) {
    tidy(() => {
      const own: Tensor2D = slice(states, [first, 0], [Math.min(rowsAtOnce, count - first), -1])
      const p: Tensor2D = softmax(headLogits(own, chunk))
      const squares = square(p)
      head.add(own, sub(p, squares), sub(1, sum(squares, 1)))
      drawn.set(drawRows(p.dataSync(), own.shape[0], random), first)
    })
  }
  return drawn
}

/** Draws a column from each of the distributions in the rows of [N, V]. */
function drawRows(values: ArrayLike<number>, rows: number, random: () => number): Int32Array {
  const size = values.length / rows
  return Int32Array.from({ length: rows }, (_, row) => {
    let left = random()
    for (let id = 0; id < size - 1; id++) {
      left -= values[row * size + id] as number
      if (left <= 0) return id
    }
    return size - 1
  })
}

/** Converts sensitivities to named tensors, to store them. */
export function sensitivityTensors({ parts, head, embedding, gates }: Sensitivities): NamedTensors {
  const tensors = new Map<string, { values: Float32Array; shape: number[] }>()
  const add = (name: string, { rows, columns, total }: Sensitivity) => {
    for (const [side, values] of Object.entries({ rows, columns, total: Float64Array.of(total) }))
      tensors.set(`${name} ${side}`, { values: Float32Array.from(values), shape: [values.length] })
  }
  for (const [part, own] of parts) for (const [projection, one] of Object.entries(own)) add(`${part} ${projection}`, one)
  add('head', head)
  add('embedding', embedding)
  tensors.set('gates', { values: Float32Array.from(gates), shape: [gates.length] })
  return tensors
}

/** Reads what `sensitivityTensors` made. */
export function readSensitivities(stored: StoredTensors): Sensitivities {
  const vector = (name: string) => Float64Array.from(stored.vector(name))
  const read = (name: string): Sensitivity => ({
    rows: vector(`${name} rows`),
    columns: vector(`${name} columns`),
    total: at(vector(`${name} total`), 0),
  })
  const parts = new Map<Part, Partial<Record<ObservedProjection, Sensitivity>>>()
  for (const name of stored.tensors.keys()) {
    const [, part, projection] = /^(\d+) (\w+) rows$/.exec(name) ?? []
    const kind = observedProjections.find((one) => one === projection)
    if (kind) parts.set(Number(part) as Part, { ...parts.get(Number(part) as Part), [kind]: read(`${part} ${kind}`) })
  }
  return { parts, head: read('head'), embedding: read('embedding'), gates: vector('gates') }
}
