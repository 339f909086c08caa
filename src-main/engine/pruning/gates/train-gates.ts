import { at } from '#contract/at.ts'
import type { GateStep } from '#contract/pruning/gates.ts'
import type { StoredTensors, TensorsToStore } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { requireFinite } from '#engine/model/finite.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import { productsForTraining } from '#engine/model/precision.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { Products } from '#engine/tensor/products.ts'
import type { MethodRun } from '../method.ts'
import { FinalStates } from '../recovery/final-states.ts'
import { requireWholeHead } from '../recovery/recovery-budget.ts'
import { gradientsOfGates } from './collect-gradients.ts'
import { type ClosedGates, closeGates, type GateList, GateMasks, shapeOfGates } from './gate-list.ts'
import { GatePass } from './gate-pass.ts'
import type { GateRoom } from './room.ts'

/** How gates are trained. */
export interface GateRecipe {
  readonly steps: number
  readonly windowsPerStep: number
  /** The highest rate at which scores move. */
  readonly rate: number
  /** How far from the threshold a gate still moves, in units of its score. */
  readonly temperature: number
  /** Parameters that each step removes. */
  readonly parameters: number
}

export const pricing = 'Pricing gates'
export const training = 'Training gates'

const pricesStep: StepKind = { version: 1, reach: 'shared' }
const trainingStep: StepKind = { version: 1 }
/** Windows that are priced, and steps of training that are made, before they are stored. A killed run computes at most this many again. */
const windowsPerStore = 8
const stepsPerStore = 5

/** With an epsilon as large as the mean move, gates that the loss hardly notices move little, and do not wander. */
const [firstBeta, secondBeta, epsilon] = [0.9, 0.98, 1]
/** The last scores, of this share of the steps, are averaged. */
const averaged = 0.5
/** Steps in which the rate rises, and its last value as a share of the highest. */
const [rising, end] = [4, 0.1]

/** The state of a training after a step. Scores rank gates: those with the lowest are closed. */
export interface GateState {
  readonly scores: Float32Array
  /** 1 for each gate that the step closed. */
  readonly closed: Float32Array
  /** The scores of the last steps, averaged. They decide in the end. */
  readonly mean: Float32Array
  readonly first: Float32Array
  readonly second: Float32Array
}

type GateRun = Pick<MethodRun, 'tensorStep' | 'step' | 'progress' | 'signal' | 'emit' | 'count'>

/** Prices and trains the gates of a model. Weights do not change. */
export class GateTraining {
  readonly products: Products
  readonly #view: ModelView
  readonly #list: GateList
  readonly #room: GateRoom
  readonly #head: FrozenHead
  readonly #pass: GatePass
  readonly #run: GateRun

  private constructor(view: ModelView, list: GateList, room: GateRoom, head: FrozenHead, products: Products, run: GateRun) {
    this.#view = view
    this.#list = list
    this.#room = room
    this.#head = head
    this.products = products
    this.#run = run
    this.#pass = new GatePass(view, head, { products, keeps: room.keeps, signal: run.signal })
  }

  static async open(view: ModelView, list: GateList, room: GateRoom, run: GateRun): Promise<GateTraining> {
    const { vocabulary } = view.model
    requireWholeHead(vocabulary.inOneChunk, view.spec)
    const products = view.takesBf16 ? productsForTraining() : 'float32'
    let head: FrozenHead | undefined
    await vocabulary.forEachHeadChunk((chunk) => {
      head = new FrozenHead(chunk, products)
    })
    return new GateTraining(view, list, room, head as FrozenHead, products, run)
  }

  /**
   * Returns the price of each gate: what closing it costs, divided by the parameters that it removes. The cost is the mean over windows of
   * the squared gradient of the text's cross-entropy, the diagonal of the empirical Fisher matrix.
   */
  async prices(windows: Windows): Promise<Float32Array> {
    const sums = new Float64Array(this.#list.count)
    for (let from = 0; from < windows.length; from += windowsPerStore) {
      const own = windows.slice(from, from + windowsPerStore)
      const on = { windows: own, products: this.products }
      const { tensors } = await this.#run.tensorStep(
        { kind: pricesStep, label: `prices of gates, ${own.length} windows`, on },
        async () => ({
          tensors: namedVectors({ squares: await this.#squares(own, from, windows.length) }),
        }),
      )
      for (const [gate, value] of (await tensors.readFloat32('squares')).entries()) sums[gate] = at(sums, gate) + value
    }
    this.#run.progress(pricing, windows.length, windows.length, 'windows')
    return Float32Array.from(sums, (sum, gate) => sum / windows.length / at(this.#list.costs, gate))
  }

  /** Returns the sum over windows of each gate's squared gradient. */
  async #squares(windows: Windows, before: number, all: number): Promise<Float32Array> {
    const sums = new Float64Array(this.#list.count)
    for (const [index, window] of windows.entries()) {
      this.#run.progress(pricing, before + index, all, 'windows')
      const found = await this.#pass.gradients({ ids: window, batch: 1 }, 1 / Math.max(1, window.length - 1), () => ({ output: 1 }))
      const own = at(gradientsOfGates(this.#list, found), 0)
      requireFinite([found.loss], 'The likelihood of the text')
      requireFinite(own, 'A gradient of the text’s likelihood')
      for (const [gate, value] of own.entries()) sums[gate] = at(sums, gate) + value * value
      this.#count(1, 2, 2)
    }
    return Float32Array.from(sums)
  }

  /**
   * Trains scores, which begin as prices on `priced` windows. Each step closes the gates with the lowest scores, and moves all scores by the gradient of the divergence
   * from the dense model, so that closed gates reopen if the model misses them. Returns the scores and what each step did.
   */
  async train(priced: Windows, windows: Windows, recipe: GateRecipe): Promise<{ scores: Float32Array; steps: GateStep[] }> {
    const run = this.#run
    const prices = await this.prices(priced)
    const done: GateStep[] = []
    const zeros = () => new Float32Array(prices.length)
    let state: GateState = { scores: logarithms(prices), closed: zeros(), mean: zeros(), first: zeros(), second: zeros() }
    if (recipe.steps === 0) return { scores: state.scores, steps: done }
    const states = await FinalStates.of(this.#view, windows, run)
    const on = { priced, windows, products: this.products, together: this.#room.together, recipe: { ...recipe } }
    for (let from = 0; from < recipe.steps; from += stepsPerStore) {
      const to = Math.min(recipe.steps, from + stepsPerStore)
      const before = state
      const emitted = new Set<number>()
      const emit = (step: GateStep) => {
        if (emitted.has(step.step)) return
        emitted.add(step.step)
        run.emit({ type: 'gates', step })
      }
      const label = `gates, steps ${from + 1} to ${to}`
      const { tensors, steps } = await run.tensorStep({ kind: trainingStep, label, on: { ...on, from, to } }, async () => {
        const own: GateStep[] = []
        let current = before
        for (let index = from; index < to; index++) {
          run.progress(training, index, recipe.steps, 'steps')
          const { state: next, step } = await this.#step(current, windows, states, recipe, index)
          current = next
          own.push(step)
          emit(step)
        }
        return { steps: own, tensors: namedVectors({ ...current }) }
      })
      for (const step of steps) emit(step)
      done.push(...steps)
      state = await readState(tensors)
    }
    run.progress(training, recipe.steps, recipe.steps, 'steps')
    return { scores: state.mean, steps: done }
  }

  async #step(
    state: GateState,
    windows: Windows,
    states: FinalStates,
    recipe: GateRecipe,
    index: number,
  ): Promise<{ state: GateState; step: GateStep }> {
    const closed = closeGates(this.#list, state.scores, recipe.parameters)
    const numbers = Array.from({ length: recipe.windowsPerStep }, (_, i) => (index * recipe.windowsPerStep + i) % windows.length)
    const { loss, gradient } = await this.#gradient(closed, [...new Set(numbers)], windows, states)
    requireFinite([loss], `The divergence at step ${index + 1} of the gates`)
    requireFinite(gradient, `A gradient at step ${index + 1} of the gates`)
    const step = { step: index + 1, divergence: loss, ...shapeOfGates(this.#list, closed), ...movesBetween(state.closed, closed) }
    return { state: moveScores(state, this.#list, closed, gradient, recipe, index), step }
  }

  /** Returns the mean divergence from the dense model in nats per token with these gates closed, on windows of equal length. */
  async divergence(closed: ClosedGates, windows: Windows): Promise<number> {
    const states = await FinalStates.of(this.#view, windows, this.#run)
    const { loss } = await this.#gradient(closed, [...windows.keys()], windows, states)
    requireFinite([loss], 'The divergence with some gates closed')
    return loss
  }

  /** Returns the mean divergence over the rows of some windows, and its gradient with respect to all gates. */
  async #gradient(closed: ClosedGates, numbers: readonly number[], windows: Windows, states: FinalStates) {
    const own = numbers.map((number) => at(windows, number))
    const rows = own.reduce((sum, { length }) => sum + length, 0)
    const gradient = new Float64Array(this.#list.count)
    const masks = new GateMasks(this.#list, closed)
    let loss = 0
    try {
      for (const { ids, batch, indices } of groupWindows(own, this.#room.together * at(own, 0).length)) {
        const dense = await states.read(indices.map((place) => at(numbers, place)))
        const found = await this.#pass.gradients({ ids, batch, dense }, 1 / rows, (part) => masks.of(part)).finally(() => dense.dispose())
        loss += found.loss / rows
        for (const ofWindow of gradientsOfGates(this.#list, found))
          for (let gate = 0; gate < gradient.length; gate++) gradient[gate] = (gradient[gate] as number) + (ofWindow[gate] as number)
        this.#count(batch, 2, 3)
      }
      return { loss, gradient }
    } finally {
      masks.dispose()
    }
  }

  #count(windows: number, passes: number, head: number): void {
    const blocks = this.#view.spec.blocks.length
    this.#run.count({ attention: passes * windows * blocks, mlp: passes * windows * blocks, head: head * windows })
  }

  dispose(): void {
    this.#pass.dispose()
    this.#head.dispose()
  }
}

/** Counts the gates that closed and reopened between two steps. */
function movesBetween(before: ArrayLike<number>, after: ClosedGates): { closed: number; reopened: number } {
  let [closed, reopened] = [0, 0]
  for (let gate = 0; gate < after.length; gate++) {
    if (after[gate] === 1 && before[gate] === 0) closed++
    if (after[gate] === 0 && before[gate] === 1) reopened++
  }
  return { closed, reopened }
}

/** Prices become scores by their logarithm. A gate without a price is cheaper than all others. */
function logarithms(prices: Float32Array): Float32Array {
  const smallest = prices.reduce((least, price) => (price > 0 && price < least ? price : least), Number.POSITIVE_INFINITY)
  const none = Number.isFinite(smallest) ? Math.log(smallest) - 1 : 0
  return prices.map((price) => (price > 0 ? Math.log(price) : none))
}

/**
 * Moves scores against the gradient by Adam (arXiv 1412.6980). The gradient passes the threshold as if gates were a sigmoid of their
 * scores (straight-through), counts per parameter, and is divided by its mean magnitude.
 */
export function moveScores(
  { scores, mean, first, second }: Omit<GateState, 'closed'>,
  { costs }: GateList,
  closed: ClosedGates,
  gradient: Float64Array,
  { steps, rate, temperature }: GateRecipe,
  index: number,
): GateState {
  // The last closed gate. Without one, every slope is 0.
  const threshold = scores.reduce((most, score, gate) => (closed[gate] && score > most ? score : most), Number.NEGATIVE_INFINITY)
  const slopes = scores.map((score) => {
    const open = 1 / (1 + Math.exp(-(score - threshold) / temperature))
    return open * (1 - open)
  })
  const moves = gradient.map((value, gate) => (value * at(slopes, gate)) / at(costs, gate))
  const size = moves.reduce((sum, move) => sum + Math.abs(move), 0) / moves.length
  const next = {
    scores: scores.slice(),
    closed: Float32Array.from(closed),
    mean: mean.slice(),
    first: first.slice(),
    second: second.slice(),
  }
  const [early, late] = [1 - firstBeta ** (index + 1), 1 - secondBeta ** (index + 1)]
  const now = rate * rateShare(index, steps)
  const after = Math.max(1, index + 1 - Math.floor((1 - averaged) * steps))
  for (const [gate, move] of moves.entries()) {
    const scaled = size > 0 ? move / size : 0
    const m = firstBeta * at(first, gate) + (1 - firstBeta) * scaled
    const v = secondBeta * at(second, gate) + (1 - secondBeta) * scaled * scaled
    next.first[gate] = m
    next.second[gate] = v
    next.scores[gate] = at(scores, gate) - (now * (m / early)) / (Math.sqrt(v / late) + epsilon)
    next.mean[gate] = at(mean, gate) + (at(next.scores, gate) - at(mean, gate)) / after
  }
  return next
}

/** The rate of a step as a share of the highest: it rises in the first steps, then falls linearly. */
function rateShare(index: number, steps: number): number {
  if (index < rising) return (index + 1) / rising
  return 1 - ((1 - end) * (index - rising + 1)) / Math.max(1, steps - rising)
}

function namedVectors(vectors: Readonly<Record<string, Float32Array>>): TensorsToStore {
  return new Map(Object.entries(vectors).map(([name, values]) => [name, { values, shape: [values.length] }]))
}

async function readState(tensors: StoredTensors): Promise<GateState> {
  const read = (name: keyof GateState) => tensors.readFloat32(name)
  return {
    scores: await read('scores'),
    mean: await read('mean'),
    closed: await read('closed'),
    first: await read('first'),
    second: await read('second'),
  }
}
