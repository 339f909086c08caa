import { dispose, type Rank, type Tensor, zeros } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Recovery, RecoveryPoint } from '#contract/pruning/recovery.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { NamedTensor, NamedTensors, StoredTensors, TensorsToStore } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { Model } from '#engine/model/model.ts'
import { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import type { StepRequest } from '#engine/steps/step-name.ts'
import type { Products } from '#engine/tensor/products.ts'
import { stepAdam, sumOfSquares } from './adam.ts'
import type { FinalStates } from './final-states.ts'
import { endsEarly, type HeldOutKind, scoreOf } from './held-out.ts'
import { LowRank, type Trained } from './low-rank.ts'
import { type Batch, TrainingPass } from './pass.ts'
import {
  type Costs,
  measurementsOf,
  type Recipe,
  type Room,
  type Schedule,
  scheduleWithin,
  stepsToLookAt,
  type TimeLimit,
  usualRate,
} from './recovery-budget.ts'
import { type Master, Student } from './student.ts'

/** The warm-up as a share of the steps. It has at least two. */
const rising = 0.05
/** The last learning rate as a share of the peak. */
const end = 0.05

/** A training whose first measurement is so many times its start begins again at this share of its rate, at most so often. */
const harmful = 1.02
const slower = 0.25
const mostRestarts = 2

/** Returns the learning rate of step `index` of `steps`, counted from 0. It rises linearly to `peak`, then falls along half a cosine. */
export function rateAt(index: number, steps: number, peak: number): number {
  const warm = Math.min(steps, Math.max(2, Math.round(steps * rising)))
  if (index < warm) return (peak * (index + 1)) / warm
  const progress = (index - warm + 1) / Math.max(1, steps - warm)
  return peak * (end + ((1 - end) * (1 + Math.cos(Math.PI * progress))) / 2)
}

export const recovering = 'Recovering'

/** Where the state of a training is stored, so that a resumed run continues from it. */
export interface StateStore {
  /** Returns the stored state, if any. */
  findState<T>(asked: StepRequest): Promise<{ value: T; tensors: StoredTensors } | undefined>
  /**
   * Stores `state` instead of the earlier one, or deletes the earlier one if `state` is missing. `seconds` is the time spent on the
   * training.
   */
  putState(asked: StepRequest, state?: { readonly value: unknown; readonly tensors: NamedTensors }, seconds?: number): Promise<void>
}

interface TrainingInput {
  readonly windows: Windows
  /** The dense model's states of the training windows, followed by those of all held-out windows. */
  readonly states: FinalStates
  readonly heldOut: readonly HeldOutKind[]
  readonly recipe: Recipe
  readonly steps: number
  /** If the recovery was requested in minutes. */
  readonly limit?: TimeLimit | undefined
  /** The name of the state in the store. */
  readonly state: StepRequest
  readonly run: Pick<MethodRun, 'progress' | 'emit'> & StateStore
}

/** The progress of a training, besides its weights. */
interface Progress {
  /** Steps that are done. */
  readonly step: number
  readonly points: readonly RecoveryPoint[]
  /** The index of the point with the best weights. */
  readonly best: number
  readonly seconds: number
  readonly schedule: Schedule
  /** How often the training began again at a lower rate. */
  readonly restarts: number
}

type TrainingResult = Pick<Recovery, 'steps' | 'plannedSteps' | 'tokens' | 'points' | 'best' | 'rate'> & {
  readonly tensors: TensorsToStore
  /** How often the training began again at a lower rate. */
  readonly restarts: number
  /** A note on where numbers stopped being finite, if that ended the training. */
  readonly lost?: string
}

interface TrainingParts {
  readonly model: Model
  readonly spec: DecoderSpec
  readonly plan: Plan
  readonly tensors: StoredTensors | undefined
  readonly products: Products
  readonly signal: AbortSignal
  readonly room: Room
}

/** Trains a student, measures it and remembers its best weights. */
export class Training {
  readonly student: Student
  readonly products: Products
  readonly room: Room
  /** What steps change: the student itself, or the factors that change it. */
  readonly #trained: Student | LowRank
  readonly #head: FrozenHead
  readonly #pass: TrainingPass
  /** The best measured weights. Empty while those at the start are the best. */
  readonly #best = new Map<string, Float32Array>()

  private constructor(student: Student, trained: Student | LowRank, products: Products, room: Room, head: FrozenHead, pass: TrainingPass) {
    this.student = student
    this.#trained = trained
    this.products = products
    this.room = room
    this.#head = head
    this.#pass = pass
  }

  static async open({ model, spec, plan, tensors, products, signal, room }: TrainingParts): Promise<Training> {
    const student = await Student.open(model, spec, plan, tensors, room.masters)
    const factors = room.trains === 'all' ? undefined : new LowRank(student)
    let head: FrozenHead | undefined
    await model.vocabulary.forEachHeadChunk((chunk) => {
      head = new FrozenHead(chunk, products)
    })
    const frozen = head as FrozenHead
    const pass = new TrainingPass(student, model.vocabulary, frozen, {
      products,
      keeps: room.keeps,
      signal,
      gradientsOf: factors && ((name, gradient) => factors.gradientsOf(name, gradient)),
    })
    return new Training(student, factors ?? student, products, room, frozen, pass)
  }

  /**
   * Measures the seconds of a step, of a measurement on `looked` windows and of storing the state. These times do not depend on the tokens
   * or the states of the dense model. Moments change, so dispose of this training afterwards.
   */
  async time(
    { windowsPerStep }: Recipe,
    { length, looked }: { readonly length: number; readonly looked: number },
    elapsed: () => number,
    store: () => Promise<void>,
  ): Promise<Pick<Costs, 'step' | 'look' | 'save'>> {
    const batchOf = async (batch: number): Promise<Batch> => ({
      ids: new Int32Array(batch * length),
      batch,
      dense: zeros<Rank.R2>([batch * length, this.student.spec.hidden]),
    })
    const seconds = async (work: () => Promise<unknown>): Promise<number> => {
      const start = elapsed()
      await work()
      return elapsed() - start
    }
    const step = (windows: number) => {
      const batches: (() => Promise<Batch>)[] = []
      for (let rest = windows; rest > 0; rest -= this.room.together) batches.push(() => batchOf(Math.min(rest, this.room.together)))
      return trainStep(this.#trained, this.#pass, batches, windows * length, { step: 1, rate: 0 })
    }
    const together = Math.min(looked, this.room.together)
    const look = async () => {
      const batch = await batchOf(together)
      await this.#pass.loss(batch).finally(() => batch.dense.dispose())
    }
    // The first pass is slower.
    await step(1)
    return {
      step: await seconds(() => step(windowsPerStep)),
      look: ((await seconds(look)) * looked) / together,
      save: await seconds(store),
    }
  }

  /** Returns what the state contains before training, to measure how long storing it takes. */
  stateToStore(): NamedTensors {
    return this.#state({ points: [], best: 0 })
  }

  /** Trains from the start or from the stored state. */
  async run(input: TrainingInput): Promise<TrainingResult> {
    const { run, limit } = input
    const begun = performance.now()
    let progress = (await this.#resume(input)) ?? (await this.#begin(input))
    const before = progress.seconds
    const looks = limit?.looks ?? measurementsOf(input.windows.length)
    if (limit) progress = { ...progress, schedule: scheduleWithin(limit, progress, looks, limit.costs.step) }
    let due = stepsToLookAt(progress.schedule, looks)
    let losses: number[] = []
    let lost: string | undefined
    let left = limit?.left() ?? 0
    let { step } = progress
    while (step < progress.schedule.steps && !lost) {
      if (endsEarly(progress.points, tokensUpTo(input, progress.schedule.steps))) break
      const { loss, length, broken } = await this.#step(input, progress, step)
      step++
      losses.push(loss)
      if (!Number.isFinite(loss + length)) lost = this.#lost(step, Number.isFinite(loss) ? `the gradient of ${broken}` : 'the loss')
      if (lost || !due.has(step)) continue
      const stepSeconds = limit ? (left - limit.left()) / losses.length : 0
      const heldOut = await this.#measure(input)
      const bad = heldOut.findIndex((value) => !Number.isFinite(value))
      if (bad >= 0) lost = this.#lost(step, `the divergence on ${input.heldOut[bad]?.kind}`)
      if (lost) continue
      const point = { step, tokens: tokensUpTo(input, step), loss: meanOf(losses), heldOut }
      losses = []
      const judged = isTooFast(input, progress, point) ? await this.#restart(progress) : await this.#judge(progress, point)
      progress = { ...judged, seconds: before + (performance.now() - begun) / 1000 }
      if (limit && progress.step < progress.schedule.steps)
        progress = { ...progress, schedule: scheduleWithin(limit, progress, looks, stepSeconds) }
      due = stepsToLookAt(progress.schedule, looks)
      await run.putState(input.state, { value: progress, tensors: this.#state(progress) }, progress.seconds)
      run.emit({ type: 'recovery', point })
      if (progress.step === 0) run.emit({ type: 'recovery', point: at(progress.points, 0) })
      step = progress.step
      left = limit?.left() ?? 0
    }
    const planned = tokensUpTo(input, progress.schedule.steps)
    run.progress(recovering, planned, planned, 'tokens')
    const { points, best } = progress
    const last = points.at(-1)
    const result = {
      steps: last?.step ?? 0,
      plannedSteps: progress.schedule.steps,
      tokens: last?.tokens ?? 0,
      points: [...points],
      best,
      rate: this.#rateOf(input, progress),
      restarts: progress.restarts,
      tensors: await this.#bestTensors(),
    }
    return lost ? { ...result, lost } : result
  }

  /** Returns a note on where numbers stopped being finite: the step, and the first tensor with damaged weights. */
  #lost(step: number, what: string): string {
    const broken = [...this.student.masters].find(([, { values }]) => !values.every(Number.isFinite))
    return `Training stopped at step ${step}: ${what} was not a finite number${broken ? `, and ${broken[0]} has damaged weights` : ''}.`
  }

  async #begin(input: TrainingInput): Promise<Progress> {
    const point: RecoveryPoint = { step: 0, tokens: 0, loss: null, heldOut: await this.#measure(input) }
    input.run.emit({ type: 'recovery', point })
    return { step: 0, points: [point], best: 0, seconds: 0, schedule: { steps: input.steps, step: 0, look: 0 }, restarts: 0 }
  }

  /** Goes back to the weights from before training, for a training at a lower rate. */
  async #restart({ points, schedule, restarts, seconds }: Progress): Promise<Progress> {
    this.#trained.release()
    await this.#trained.restart()
    await this.#trained.refresh()
    return {
      step: 0,
      points: points.slice(0, 1),
      best: 0,
      seconds,
      schedule: { steps: schedule.steps, step: 0, look: 0 },
      restarts: restarts + 1,
    }
  }

  /** Adds a measurement, and remembers the weights if they are the best so far. */
  async #judge({ points, best, ...rest }: Progress, point: RecoveryPoint): Promise<Progress> {
    const start = points[0]?.heldOut ?? []
    const isBest = scoreOf(start, point.heldOut) < scoreOf(start, points[best]?.heldOut ?? [])
    if (isBest) await this.#keepBest()
    return { ...rest, step: point.step, points: [...points, point], best: isBest ? points.length : best }
  }

  async #keepBest(): Promise<void> {
    for (const [name, { values }] of this.#trained.masters) {
      const own = this.#best.get(name) ?? new Float32Array(values.length)
      own.set(values)
      this.#best.set(name, own)
      await this.#pass.pause()
    }
  }

  async #step(input: TrainingInput, progress: Progress, index: number): Promise<StepResult> {
    const { windows, states, recipe, run } = input
    const { steps } = progress.schedule
    const first = index * recipe.windowsPerStep
    const own = Array.from({ length: Math.min(recipe.windowsPerStep, windows.length - first) }, (_, i) => first + i)
    const batches: (() => Promise<Batch>)[] = []
    for (let at = 0; at < own.length; at += this.room.together) {
      batches.push(() => {
        run.progress(recovering, tokensUpTo(input, index) + at * lengthOf(windows), tokensUpTo(input, steps), 'tokens')
        return this.#batch(windows, states, own.slice(at, at + this.room.together))
      })
    }
    const rows = own.length * lengthOf(windows)
    return trainStep(this.#trained, this.#pass, batches, rows, {
      step: index + 1,
      rate: rateAt(index, steps, this.#rateOf(input, progress)),
    })
  }

  /** Returns the mean divergence on each held-out kind of text. */
  async #measure({ windows, heldOut, states }: TrainingInput): Promise<number[]> {
    const means: number[] = []
    const all = [...windows, ...heldOut.flatMap((kind) => kind.windows)]
    let first = windows.length
    for (const { windows: own } of heldOut) {
      let sum = 0
      for (let at = 0; at < own.length; at += this.room.together) {
        const indices = Array.from({ length: Math.min(this.room.together, own.length - at) }, (_, i) => first + at + i)
        const batch = await this.#batch(all, states, indices)
        sum += await this.#pass.loss(batch).finally(() => batch.dense.dispose())
      }
      means.push(sum / own.reduce((total, { length }) => total + length, 0))
      first += own.length
    }
    return means
  }

  async #batch(windows: Windows, states: FinalStates, indices: readonly number[]): Promise<Batch> {
    const own = indices.map((index) => windows[index] as Int32Array)
    const ids = new Int32Array(own.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const window of own) {
      ids.set(window, at)
      at += window.length
    }
    return { ids, batch: own.length, dense: await states.read(indices) }
  }

  /** Returns weights, moments and, unless the current weights are the best ones, also the best weights. */
  #state({ points, best }: Pick<Progress, 'points' | 'best'>): NamedTensors {
    const tensors = new Map<string, NamedTensor>()
    for (const [name, { values, first, second, shape }] of this.#trained.masters) {
      tensors.set(`value ${name}`, { values, shape })
      tensors.set(`first ${name}`, { values: first, shape })
      tensors.set(`second ${name}`, { values: second, shape })
      const own = this.#best.get(name)
      if (own && best < points.length - 1) tensors.set(`best ${name}`, { values: own, shape })
    }
    return tensors
  }

  async #resume({ state, run }: TrainingInput): Promise<Progress | undefined> {
    const found = await run.findState<Progress>(state)
    if (!found) return undefined
    const { value, tensors } = found
    this.#trained.release()
    for (const [name, { values, first, second }] of this.#trained.masters) {
      values.set(await tensors.readFloat32(`value ${name}`))
      first.set(await tensors.readFloat32(`first ${name}`))
      second.set(await tensors.readFloat32(`second ${name}`))
      if (value.best === 0) continue
      this.#best.set(name, value.best < value.points.length - 1 ? await tensors.readFloat32(`best ${name}`) : values.slice())
    }
    await this.#trained.refresh()
    // The run may have been killed between storing the state and this event.
    for (const point of value.points.slice(-1)) run.emit({ type: 'recovery', point })
    return value
  }

  async #bestTensors(): Promise<TensorsToStore> {
    if (this.#best.size === 0) return new Map()
    if (this.#trained instanceof LowRank) return this.#trained.merged(this.#best)
    return new Map([...this.#best].map(([name, values]) => [name, { ...(this.student.masters.get(name) as Master), values }]))
  }

  /** The highest rate of a training. */
  #rateOf({ recipe: { rate, trains } }: TrainingInput, { restarts }: Progress): number {
    return (rate ?? usualRate(this.student.spec.hidden, this.student.scale, trains)) * slower ** restarts
  }

  /** Trained entries. */
  get size(): number {
    return this.#trained.size
  }

  dispose(): void {
    this.#pass.dispose()
    this.#head.dispose()
    this.student.dispose()
  }
}

/**
 * Whether a training at the default rate begins with a harm, as too high a rate does to a model that lost little. At a rate that was asked
 * for, the end of the schedule may repair it.
 */
const isTooFast = ({ recipe }: TrainingInput, { points, restarts }: Progress, { heldOut }: RecoveryPoint): boolean =>
  recipe.rate === undefined && points.length === 1 && restarts < mostRestarts && meanOf(heldOut) > harmful * meanOf(at(points, 0).heldOut)

const lengthOf = (windows: Windows): number => windows[0]?.length ?? 0

/** Returns the number of tokens in the first `steps` steps. */
const tokensUpTo = ({ windows, recipe }: TrainingInput, steps: number): number =>
  Math.min(windows.length, steps * recipe.windowsPerStep) * lengthOf(windows)

/** The gradient is clipped to this length over all tensors. */
const longest = 1

interface StepResult {
  /** The mean divergence over all rows of the step, before weights change. */
  readonly loss: number
  /** The length of the gradient before it was clipped. */
  readonly length: number
  /** The tensor nearest to the loss whose gradient is not finite. */
  readonly broken?: string | undefined
}

interface StepCall {
  /** Counted from 1. */
  readonly step: number
  readonly rate: number
}

/**
 * Runs one step of training on some batches, which are created when needed and disposed of here. If the loss or a gradient is not finite,
 * no weight changes, and the result says so. A cancelled step may have updated some weights and not others, so the training must be
 * discarded.
 */
export async function trainStep(
  trained: Trained,
  pass: TrainingPass,
  batches: readonly (() => Promise<Batch>)[],
  rows: number,
  { step, rate }: StepCall,
): Promise<StepResult> {
  const sums = new Map<string, Tensor>()
  let total = 0
  try {
    for (const make of batches) {
      const batch = await make()
      total += await pass.addGradients(batch, 1 / rows, sums).finally(() => batch.dense.dispose())
    }
    const { gradients, length, broken } = await readGradients(sums, pass)
    const result = { loss: total / rows, length, broken }
    if (!Number.isFinite(result.loss) || !Number.isFinite(length)) return result
    const factor = Math.min(1, longest / length)
    trained.release()
    const pause = () => pass.pause()
    for (const [name, gradient] of gradients) await stepAdam(trained.masters.get(name) as Master, gradient, { step, rate, factor }, pause)
    await trained.refresh(pause)
    return result
  } finally {
    dispose([...sums.values()])
  }
}

/**
 * Returns the values of the gradients, their length over all tensors, and the first tensor that is not finite. Disposes of the tensors one
 * by one.
 */
async function readGradients(
  sums: Map<string, Tensor>,
  pass: TrainingPass,
): Promise<{ gradients: Map<string, Float32Array>; length: number; broken: string | undefined }> {
  const gradients = new Map<string, Float32Array>()
  let squares = 0
  let broken: string | undefined
  for (const [name, tensor] of sums) {
    await pass.pause()
    const values = tensor.dataSync() as Float32Array
    gradients.set(name, values)
    squares += sumOfSquares(values)
    if (!Number.isFinite(squares)) broken ??= name
    sums.delete(name)
    tensor.dispose()
  }
  return { gradients, length: Math.sqrt(squares), broken }
}
