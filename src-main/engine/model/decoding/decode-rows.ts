import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { CachedBlock, DecodedParts, FusedOperations } from '#engine/backend/fused.ts'
import { normKinds, type StepNumbers, type StepWords, stepNumbers, stepWords } from '#engine/backend/native-inputs.ts'
import { type KeyValueSlots, type PlacedSequence, placeRows, tablesOf } from '#engine/model/parts/attention/cache.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { breathe, type Walk } from '#engine/model/walk.ts'
import {
  type AttentionWeights,
  blockOf,
  isAttention,
  type MlpWeights,
  mlpOf,
  mlpOfWeights,
  type Part,
  type PartWeights,
} from '#engine/model/weights/weights.ts'
import { groupStored, isSettled, narrowed } from '#engine/tensor/narrow.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { fewRows, isPacked, type Matrix } from '#engine/tensor/products.ts'
import type { Rotary, RotaryTables } from '#engine/tensor/rotary.ts'

/** A request to compute the new tokens of some sequences of one view. */
export interface DecodeJob {
  readonly view: ModelView
  readonly walk: Walk
  readonly cache: KeyValueSlots
  readonly sequences: readonly PlacedSequence[]
  readonly ids: Int32Array
  readonly signal?: AbortSignal | undefined
}

/** The approximate bytes of weights that one operation reads. A cancel takes effect between two operations. */
const bytesAtOnce = 2 ** 28

/** Whether the fused operation that takes few rows through all parts can compute `rows` tokens of this view. */
export function decodesRows({ spec, sliced, takesBf16, model }: ModelView, rows: number): boolean {
  const { fused } = activeBackend()
  // A parallel MLP must run with its attention, so both have to be in memory.
  const blocksFit = !spec.parallelResidual || !model.store.streams
  return fused?.decode !== undefined && rows <= fewRows && blocksFit && !spec.delta && !spec.router && !sliced && takesBf16
}

/**
 * Runs tokens of several views of one model together, and reads each weight once for all views that share it. Returns the stream after the
 * last part, [N, D].
 */
export async function decodeRows(jobs: readonly DecodeJob[]): Promise<Tensor2D> {
  const { view } = jobs[0] as DecodeJob
  const fused = activeBackend().fused as FusedOperations
  const sequences = jobs.flatMap((job) => job.sequences)
  const placed = placeRows(sequences)
  const tables = new Map<Rotary, RotaryTables>()
  const call: DecodeCall = {
    jobs: jobs.map((job, index) => ({ ...job, rows: rowsOf(jobs, index) })),
    spec: view.spec,
    tablesOf(block) {
      const rotary = view.spec.rotary(block)
      const made = tables.get(rotary) ?? tablesOf(sequences, rotary)
      tables.set(rotary, made)
      return made
    },
  }
  let x = await view.model.vocabulary.embed(Int32Array.from(jobs.flatMap(({ ids }) => [...ids])))
  try {
    for (const [index, blocks] of blocksAtOnce(view).entries()) {
      if (index !== 0) await breathe()
      if (jobs.every(({ signal }) => signal?.aborted)) jobs[0]?.signal?.throwIfAborted()
      const next = await runBlocks(fused, x, blocks, call, placed)
      x.dispose()
      x = next
    }
    return x
  } catch (error) {
    x.dispose()
    throw error
  } finally {
    placed.rows.dispose()
    placed.slots.dispose()
    for (const { cosine, sine } of tables.values()) {
      cosine.dispose()
      sine.dispose()
    }
  }
}

type PlacedJob = DecodeJob & { readonly rows: readonly number[] }

interface DecodeCall {
  readonly jobs: readonly PlacedJob[]
  readonly spec: DecoderSpec
  tablesOf(block: number): RotaryTables
}

/** The indices of the rows that belong to one of a call's jobs. */
function rowsOf(jobs: readonly DecodeJob[], index: number): number[] {
  const first = jobs.slice(0, index).reduce((sum, { ids }) => sum + ids.length, 0)
  return Array.from((jobs[index] as DecodeJob).ids, (_, row) => first + row)
}

/** Divides the parts into groups that one operation computes: whole blocks, or single parts if weights are streamed. */
function blocksAtOnce({ model, spec }: ModelView): Part[][] {
  const bytes = 4 * spec.hidden * (4 * spec.hidden + 3 * spec.intermediate)
  const blocks = Math.max(1, Math.floor(bytesAtOnce / bytes))
  const all = Array.from({ length: 2 * model.spec.blocks.length }, (_, part) => part)
  const size = model.store.streams ? 1 : 2 * blocks
  return Array.from({ length: Math.ceil(all.length / size) }, (_, index) => all.slice(index * size, (index + 1) * size))
}

interface Leased {
  readonly job: PlacedJob
  readonly part: Part
  readonly weights: PartWeights<Matrix>
  /** Whether these are the model's whole weights, although the view may keep only some of their neurons. */
  readonly whole: boolean
}

async function runBlocks(
  fused: FusedOperations,
  x: Tensor2D,
  parts: readonly Part[],
  call: DecodeCall,
  placed: ReturnType<typeof placeRows>,
): Promise<Tensor2D> {
  const leased: Leased[] = []
  try {
    for (const part of parts) {
      const jobs = call.jobs.filter(({ view }) => view.has(part))
      const whole = shareWhole(part, jobs)
      for (const job of jobs) leased.push(await lease(part, job, whole))
    }
    for (const { weights } of leased) await groupStored(weights)
    if (leased.length === 0) return x.clone()
    const steps = stepsOf(leased as [Leased], call)
    const { heads, keyValueHeads, headSize, activation, gatedQueries = false, scoreCap: cap = 0 } = call.spec
    return fused.decode(x, steps, placed, { heads, keyValueHeads, headSize, activation, gatedQueries, cap })
  } finally {
    for (const one of leased) giveBack(one)
  }
}

/**
 * The steps of a walk's last call, by their first part, and what they were made of. The next token of a sequence usually needs the same
 * steps.
 */
const lastSteps = new WeakMap<Walk, Map<Part, { readonly madeOf: readonly unknown[]; readonly steps: DecodeParts }>>()

/** Makes the steps of the operation, or reuses those of the walk's last call if only positions have changed since. */
function stepsOf(leased: readonly [Leased, ...Leased[]], call: DecodeCall): DecodeParts {
  const [{ job, part }] = leased
  const madeOf = leased.flatMap((one) => [one.weights, one.job.rows.length, besidesWeights(one)])
  const ofWalk = lastSteps.get(job.walk) ?? new Map()
  lastSteps.set(job.walk, ofWalk)
  const last = ofWalk.get(part)
  if (last?.madeOf.length === madeOf.length && madeOf.every((one, index) => one === last.madeOf[index])) {
    last.steps.useTables(call.tablesOf)
    return last.steps
  }
  const steps = new DecodeParts()
  for (const ofPart of Map.groupBy(leased, (one) => one.part).values()) {
    for (const sharing of Map.groupBy(ofPart, ({ weights }) => weights.attention ?? weights.mlp).values()) addStep(steps, sharing, call)
  }
  if (steps.isSettled) ofWalk.set(part, { madeOf, steps })
  return steps
}

/** What a part reads besides weights and rotary tables: keys and values, or a mask of neurons. */
function besidesWeights({ job, part, whole }: Leased): unknown {
  if (isAttention(part)) return job.cache.of(blockOf(part))
  return whole ? job.view.maskOf(part) : undefined
}

/** Whether reading the model's whole MLP once is less than reading what each view keeps of it. */
function shareWhole(part: Part, jobs: readonly PlacedJob[]): boolean {
  const [first] = jobs
  if (!first || isAttention(part) || jobs.some(({ walk, view }) => walk.products !== 'float32' || !view.neuronsOf(part).shared))
    return false
  const { model } = first.view
  const neurons = [...new Set(jobs.map(({ view }) => view))].reduce((sum, view) => sum + view.neuronsOf(part).count, 0)
  return !model.store.streams && neurons > layoutOf(model.spec, blockOf(part)).width
}

async function lease(part: Part, job: PlacedJob, whole: boolean): Promise<Leased> {
  const weights = whole ? await job.view.model.store.lease(part) : await job.walk.lease(part)
  return { job, part, weights, whole }
}

function giveBack({ job, part, weights, whole }: Leased): void {
  if (whole) job.view.model.store.release(part, weights as PartWeights)
  else job.walk.release(part, weights)
}

/** Adds a step that runs a part, with one set of weights, on the rows of all jobs that share these weights. */
function addStep(steps: DecodeParts, sharing: readonly Leased[], call: DecodeCall): void {
  const { part, weights } = sharing[0] as Leased
  const { spec } = call
  if (weights.attention) {
    // In a parallel block, the MLP reads what the attention read. If a job's MLP was removed, its next block begins.
    const mlpFollows = ({ job }: Leased) => spec.parallelResidual && job.view.has(mlpOf(blockOf(part)))
    for (const [keepsSource, some] of Map.groupBy(sharing, mlpFollows)) addAttention(steps, weights.attention, some, keepsSource, call)
    return
  }
  const rows = sharing.flatMap(({ job }) => job.rows)
  const masks = sharing.flatMap(({ job, whole }) => job.rows.map(() => (whole ? job.view.maskOf(part) : undefined)))
  steps.addMlp(mlpOfWeights(weights), { rows, hidden: spec.hidden, scale: spec.residualScale ?? 1, keepsSource: false, masks })
}

function addAttention(
  steps: DecodeParts,
  weights: AttentionWeights<Matrix>,
  sharing: readonly Leased[],
  keepsSource: boolean,
  { spec, tablesOf }: DecodeCall,
): void {
  const block = blockOf((sharing[0] as Leased).part)
  steps.addAttention(weights, {
    rows: sharing.flatMap(({ job }) => job.rows),
    hidden: spec.hidden,
    scale: spec.residualScale ?? 1,
    keepsSource,
    block,
    window: spec.slidingWindow(block) ?? 0,
    tables: tablesOf(block),
    caches: sharing.flatMap(({ job }) => job.rows.map(() => job.cache.of(block))),
  })
}

/** The settings of a part, besides its weights. */
interface StepOf {
  /** The rows of the call that run this part. */
  readonly rows: readonly number[]
  readonly hidden: number
  /** The factor on the output that is added to the stream. */
  readonly scale: number
  /** Whether a parallel MLP follows, which still reads the block's input. */
  readonly keepsSource: boolean
}

interface MlpStep extends StepOf {
  /** For each row, the factors on the neurons, [I]: 0 for neurons that the row's plan removed. Undefined for a row that keeps all. */
  readonly masks?: readonly (Tensor1D | undefined)[]
}

interface AttentionStep extends StepOf {
  readonly block: number
  readonly window: number
  readonly tables: RotaryTables
  /** The keys and values of each row. */
  readonly caches: readonly CachedBlock[]
}

const none = -1

/**
 * Parts of the decoder in the form that `native/kernels/decode-kernel.h` reads, one after another. Each tensor is listed once and referred
 * to by index.
 */
export class DecodeParts implements DecodedParts {
  readonly #steps: number[] = []
  readonly #numbers: number[] = []
  readonly #lists: number[] = []
  #typed: Pick<DecodedParts, 'steps' | 'numbers' | 'lists'> | undefined
  readonly tensors: Tensor[] = []
  readonly packed: Tensor[] = []
  readonly #places = new Map<Tensor, number>()
  /** By the index of rotary tables in `tensors`, a block that uses them. */
  readonly #tables = new Map<number, number>()
  #settled = true

  get steps(): Int32Array {
    return this.#typedLists().steps
  }

  get numbers(): Float32Array {
    return this.#typedLists().numbers
  }

  get lists(): Int32Array {
    return this.#typedLists().lists
  }

  /**
   * Whether all weights are in their final form, with smaller copies where these will exist, so that the next token can use these parts
   * too.
   */
  get isSettled(): boolean {
    return this.#settled
  }

  /** Replaces the rotary tables by those of another call. */
  useTables(of: (block: number) => RotaryTables): void {
    for (const [place, block] of this.#tables) {
      const { cosine, sine } = of(block)
      this.tensors.splice(place, 2, cosine, sine)
    }
  }

  addAttention(weights: AttentionWeights<Matrix>, step: AttentionStep): void {
    const { rows, hidden, block, window, tables, caches, scale, keepsSource } = step
    const { queryNorm, keyNorm } = weights
    const firstRow = this.#rows(rows)
    const placed = this.#pair(tables.cosine, tables.sine)
    this.#tables.set(placed, block)
    this.#lists.push(...caches.map(({ key, value }) => this.#pair(key, value)))
    const words: StepWords = {
      attends: 1,
      keepsSource: Number(keepsSource),
      firstRow,
      rows: rows.length,
      inner: rowsOfMatrix(weights.queryKeyValue),
      window,
      tables: placed,
      ...this.#norms(weights),
      headKind: kindOf(queryNorm),
      queryWeight: this.#place(queryNorm?.weight),
      keyWeight: this.#place(keyNorm?.weight),
      first: this.#matrix(weights.queryKeyValue),
      firstBias: this.#place(weights.queryKeyValueBias),
      gate: none,
      gateBias: none,
      second: this.#matrix(weights.output),
      secondBias: this.#place(weights.outputBias),
    }
    this.#push(words, { ...normNumbers(weights, hidden), headEpsilon: queryNorm?.epsilon ?? 0, scale })
  }

  addMlp(weights: MlpWeights<Matrix>, { rows, hidden, scale, keepsSource, masks = [] }: MlpStep): void {
    const { gate, up, down } = weights
    const firstRow = this.#rows(rows)
    this.#lists.push(...rows.map((_, index) => this.#place(masks[index])))
    const words: StepWords = {
      attends: 0,
      keepsSource: Number(keepsSource),
      firstRow,
      rows: rows.length,
      inner: rowsOfMatrix(up),
      window: 0,
      tables: none,
      ...this.#norms(weights),
      headKind: normKinds.none,
      queryWeight: none,
      keyWeight: none,
      first: this.#matrix(up),
      firstBias: this.#place(weights.upBias),
      gate: gate ? this.#matrix(gate) : none,
      gateBias: this.#place(weights.gateBias),
      second: this.#matrix(down),
      secondBias: this.#place(weights.downBias),
    }
    this.#push(words, { ...normNumbers(weights, hidden), headEpsilon: 0, scale })
  }

  #push(words: StepWords, numbers: StepNumbers): void {
    this.#steps.push(...stepWords.map((name) => words[name]))
    this.#numbers.push(...stepNumbers.map((name) => numbers[name]))
    this.#typed = undefined
  }

  #typedLists() {
    this.#typed ??= {
      steps: Int32Array.from(this.#steps),
      numbers: Float32Array.from(this.#numbers),
      lists: Int32Array.from(this.#lists),
    }
    return this.#typed
  }

  #norms({ norm, outputNorm }: AttentionWeights<Matrix> | MlpWeights<Matrix>) {
    return {
      beforeKind: kindOf(norm),
      beforeWeight: this.#place(norm?.weight),
      beforeBias: this.#place(norm?.bias),
      afterKind: kindOf(outputNorm),
      afterWeight: this.#place(outputNorm?.weight),
      afterBias: this.#place(outputNorm?.bias),
    }
  }

  #rows(rows: readonly number[]): number {
    return this.#lists.push(...rows) - rows.length
  }

  #matrix(weight: Matrix): number {
    const narrow = isPacked(weight) ? weight.values : narrowed(weight)
    this.#settled &&= isPacked(weight) || isSettled(weight)
    return narrow ? -1 - this.packed.push(narrow) : this.#place(weight as Tensor2D)
  }

  #place(tensor: Tensor | undefined): number {
    if (!tensor) return none
    const known = this.#places.get(tensor)
    if (known !== undefined) return known
    const place = this.tensors.push(tensor) - 1
    this.#places.set(tensor, place)
    return place
  }

  /** Lists two tensors next to each other, and returns the index of the first. */
  #pair(first: Tensor, second: Tensor): number {
    const known = this.#places.get(first)
    if (known !== undefined) return known
    const place = this.#place(first)
    this.tensors.push(second)
    return place
  }
}

const rowsOfMatrix = (weight: Matrix): number => (isPacked(weight) ? weight.rows : weight.shape[0])

const kindOf = (norm: NormWeights | undefined): number => normKinds[norm?.kind ?? 'none']

function normNumbers({ norm, outputNorm }: AttentionWeights<Matrix> | MlpWeights<Matrix>, hidden: number) {
  return {
    beforeEpsilon: norm?.epsilon ?? 0,
    beforeDivisor: norm?.divisor ?? hidden,
    afterEpsilon: outputNorm?.epsilon ?? 0,
    afterDivisor: outputNorm?.divisor ?? hidden,
  }
}
