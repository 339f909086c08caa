import { at } from '#contract/at.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { heldOutWindows, type Recovery, type RecoveryRequest } from '#contract/pruning/recovery.ts'
import { selfWritten } from '#contract/titles.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { productsForTraining } from '#engine/model/precision.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import type { MethodPhase, MethodRun } from '#engine/pruning/method.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { FinalStates, readingDense, timeStates } from './final-states.ts'
import type { HeldOutKind } from './held-out.ts'
import { rank } from './low-rank.ts'
import {
  type Costs,
  lengthWithin,
  measurementsOf,
  type Room,
  recipeFor,
  requireWholeHead,
  roomFor,
  type TimeLimit,
} from './recovery-budget.ts'
import type { KeptMasters } from './student.ts'
import { recovering, type StateStore, Training } from './training.ts'

const recoveryStep: StepKind = { version: 6 }
/** What can be trained in some minutes depends on the machine and the moment, so no other run finds it. */
const timedStep: StepKind = { version: 2, reach: 'own' }
const stateStep: StepKind = { version: 4, reach: 'own' }
const lengthStep: StepKind = { version: 1, reach: 'own' }

interface RecoveryText {
  readonly windows: Windows
  readonly used: UsedData
  readonly notes: readonly string[]
}

export interface RecoveryInput {
  /** The dense model. */
  readonly view: ModelView
  /** The plan of a method, perhaps repaired. */
  readonly plan: Plan
  /** The tensors of the plan, if it has any. */
  readonly tensors?: StoredTensors | undefined
  readonly request: RecoveryRequest
  /** Reads `windows` windows of the training text, using only those that `choose` returns. */
  read(windows: number, choose: (windows: Windows) => Windows): Promise<RecoveryText>
  readonly heldOut: readonly HeldOutKind[]
  /** Windows that the run is measured on or was repaired on. Nothing that shares text with them is trained on. */
  readonly apart: Windows
  /** Seconds since the recovery began, those of earlier attempts included. Default: since this call. */
  elapsed?(): number
  readonly run: Pick<MethodRun, 'step' | 'tensorStep' | 'progress' | 'signal' | 'emit'> & StateStore
}

export interface Recovered {
  /** The plan with all tensors replaced, or the given plan if training improved nothing. */
  readonly plan: Plan
  readonly tensors: StoredTensors | undefined
  readonly recovery: Omit<Recovery, 'seconds'>
  readonly notes: readonly string[]
}

/**
 * Trains what a plan leaves towards the dense model's distribution over the whole vocabulary (see README.md). Training is one step of the
 * run. Its state is stored at each measurement, so a resumed run continues with the same bits. Throws `infeasible` for what cannot be
 * trained and `out-of-memory` for what does not fit, before any text is read.
 */
export async function recoverPlan(given: RecoveryInput): Promise<Recovered> {
  const start = performance.now()
  const input = { ...given, elapsed: given.elapsed ?? (() => (performance.now() - start) / 1000) }
  const { view, plan, request, heldOut, run } = input
  requireTrainable(view, plan)
  const room = roomFor(view.model.freeBytes, view.spec, plan, request.text.sequenceLength, request.trains)
  const { tokens, limit } = await chooseLength(input, room)
  const recipe = recipeFor(request, tokens, room.trains)
  const { windows, used, notes } = await readText(input, recipe.tokens)
  const states = await FinalStates.of(view, [...windows, ...heldOut.flatMap((kind) => kind.windows)], run)
  const steps = Math.ceil(windows.length / recipe.windowsPerStep)
  const training = await openTraining(input, room)
  try {
    const { products, student } = training
    const { together } = room
    const on = { plan, recipe: { ...recipe }, windows, heldOut: heldOut.map((kind) => kind.windows), products, together }
    const state = { kind: stateStep, label: 'state of a recovery', on }
    const { tensors, lost, restarts, ...account } = await run.tensorStep(
      { kind: limit ? timedStep : recoveryStep, label: 'recovery', on },
      () => training.run({ windows, states, heldOut, recipe, steps, limit, run, state }),
    )
    await run.putState(state)
    const recovery: Recovered['recovery'] = {
      ...account,
      parameters: training.size,
      trains: room.trains,
      products: products === 'float32' ? 'float32' : 'bfloat16',
      text: used,
      heldOut: heldOut.map(({ kind, windows: own }) => ({ kind, windows: own.length })),
    }
    const again = restarts > 0 ? [beganAgain(restarts, recovery.rate)] : []
    const slower = recovery.plannedSteps < steps ? [slowerThan(request, steps, recovery.plannedSteps)] : []
    const allNotes = [...notes, ...(lost ? [lost] : []), ...again, ...slower, ...notesOn(recovery, room)]
    if (recovery.best === 0) return { plan, tensors: input.tensors, recovery, notes: allNotes }
    return { plan: student.planFor(plan), tensors, recovery, notes: allNotes }
  } finally {
    training.dispose()
  }
}

/** Opens the training. Frees the dense model's weights first, because from here on only its embedding and head are needed. */
async function openTraining({ view, plan, tensors, run }: RecoveryInput, room: Room): Promise<Training> {
  view.model.store.empty()
  const pruned = viewWithPlan(view.model, plan, tensors)
  const { spec } = pruned
  pruned.dispose()
  return Training.open({ model: view.model, spec, plan, tensors, products: productsForTraining(), signal: run.signal, room })
}

const beganAgain = (restarts: number, rate: number): string =>
  `The first steps made held-out text worse, so training began again ${restarts === 1 ? 'once' : 'twice'} at a lower rate, ${rate.toExponential(1)} in the end.`

type Timed = RecoveryInput & { elapsed(): number }

const slowerThan = ({ amount }: RecoveryRequest, before: number, after: number): string =>
  `The machine became slower, so only ${after} of ${before} steps fit in ${'minutes' in amount ? amount.minutes : 0} minutes.`

/**
 * Returns the tokens to train on. Minutes are converted to tokens by the time of everything that a recovery does, which is measured once
 * and stored. `limit` then keeps the training within them.
 */
async function chooseLength(input: Timed, room: Room): Promise<{ tokens: number; limit?: TimeLimit }> {
  const { request, plan, run, elapsed } = input
  const { amount, text } = request
  if ('tokens' in amount) return { tokens: amount.tokens }
  const seconds = 60 * amount.minutes
  const left = () => seconds - elapsed()
  const on = { plan, minutes: amount.minutes, text: { ...text }, together: room.together, trains: room.trains }
  const { windows, looks, costs } = await run.step({ kind: lengthStep, label: 'length of a timed recovery', on }, async () => {
    const measured = await measureCosts(input, room)
    const { windowsPerStep } = recipeFor(request, 0, room.trains)
    return { ...lengthWithin(left(), measured, { windowsPerStep, heldOut: heldOutOf(input), minutes: amount.minutes }), costs: measured }
  })
  return { tokens: windows * text.sequenceLength, limit: { seconds, looks, left, costs } }
}

const heldOutOf = ({ heldOut }: RecoveryInput): number => heldOut.reduce((sum, { windows }) => sum + windows.length, 0)

/** How many windows of text that the dense model writes are timed: enough for several groups of texts. */
const timedText = 32

async function measureCosts(input: Timed, room: Room): Promise<Costs> {
  const { view, plan, request, heldOut, run, elapsed } = input
  const { sequenceLength, source, mix = [{ source }] } = request.text
  const { minutes } = request.amount as Extract<RecoveryRequest['amount'], { minutes: number }>
  const looked = heldOut.flatMap(({ windows }) => windows)
  const recipe = recipeFor(request, 0, room.trains)
  const start = elapsed()
  const training = await openTraining(input, room)
  const open = elapsed() - start
  const state = { kind: stateStep, label: 'state of a timed training', on: { plan } }
  const store = () => run.putState(state, { value: null, tensors: training.stateToStore() })
  const trained = await training
    .time(recipe, { length: sequenceLength, looked: looked.length }, elapsed, store)
    .finally(() => training.dispose())
  await run.putState(state)
  const dense = await timeStates(view, looked.slice(0, recipe.windowsPerStep), run, elapsed)
  const known = { open, ...trained, ...dense, text: 0 }
  if (!mix.some((part) => part.source === selfWritten)) return known
  const { windows: most } = lengthWithin(60 * minutes - elapsed(), known, {
    windowsPerStep: recipe.windowsPerStep,
    heldOut: looked.length,
    minutes,
  })
  const windows = Math.min(timedText, Math.ceil(most / 4))
  const reading = elapsed()
  await readText(input, windows * sequenceLength)
  return { ...known, text: (elapsed() - reading) / windows }
}

/** Returns the windows to train on, each once. Leaves out those that share text with what is held out, measured or repaired on. */
async function readText({ read, heldOut, apart, request }: RecoveryInput, tokens: number): Promise<RecoveryText> {
  const { sequenceLength } = request.text
  const wanted = Math.max(1, Math.round(tokens / sequenceLength))
  const others = [...apart, ...heldOut.flatMap((kind) => kind.windows)]
  let overlaps = false
  const found = await read(wanted, (windows) => {
    // Windows given as token ids may have other lengths.
    const even = windows.filter(({ length }) => length >= sequenceLength).map((window) => window.subarray(0, sequenceLength))
    const chosen = withoutOverlap(even, others)
    overlaps ||= chosen.length < even.length
    return chosen
  })
  const { windows, used } = found
  if (windows.length === 0)
    throw new EspalierError(
      'invalid',
      `${used.source} has no text left to train on: all of it is used by measures, the held-out text or the repair. Choose another text.`,
    )
  const notes = [...found.notes]
  if (overlaps) notes.push('Windows that share text with measures, the held-out text or the repair were not trained on.')
  if (windows.length < wanted)
    notes.push(
      `The text has only ${(windows.length * sequenceLength).toLocaleString('en')} tokens to train on; ${(wanted * sequenceLength).toLocaleString('en')} were requested. Each is used once. Use a longer text to train longer.`,
    )
  return { windows, used, notes }
}

function notesOn({ best, points, steps, plannedSteps, products, trains }: Recovered['recovery'], { masters }: Room): string[] {
  const notes: string[] = []
  if (products === 'bfloat16') notes.push('Trained with bfloat16 products and float32 sums and weights.')
  if (trains === 'low-rank') notes.push(`Trained a change of rank ${rank} to each projection, which was added to its weights at the end.`)
  if (masters === 'shapes')
    notes.push('The other weights did not fit in memory and were read again in each pass. More memory makes training faster.')
  if (best === 0) return [...notes, 'Training made the held-out text no better, so the weights stay unchanged.']
  const [chosen] = points.slice(best, best + 1)
  if (chosen && best < points.length - 1)
    notes.push(`The weights are those after step ${chosen.step} of ${steps}, which were best on held-out text.`)
  if (steps < plannedSteps) notes.push(`Training stopped after ${steps} of ${plannedSteps} steps.`)
  return notes
}

function requireTrainable({ spec, model }: ModelView, { blocks, slice }: Plan): void {
  const refuse = (text: string) => {
    throw new EspalierError('infeasible', text)
  }
  if (slice || spec.sliceWidth !== undefined)
    refuse('A sliced model cannot be recovered, because slicing rotates its hidden states. Choose another method.')
  if (blocks.some(({ mlp }) => mlp !== 'removed' && (mlp.inputs ?? mlp.outputs)))
    refuse('A plan that cuts hidden channels of MLPs cannot be recovered. Set the option cut of 2SSP to neurons.')
  requireWholeHead(model.vocabulary.inOneChunk, spec)
}

/** Two windows that have this many tokens in a row in common share a passage. */
const stretch = 32

/** Returns the windows that share no passage with any of `others`, wherever it begins in either. */
export function withoutOverlap(windows: Windows, others: Windows): Int32Array[] {
  const known = new Set<number>()
  for (const other of others) for (const hash of hashesOf(other)) known.add(hash)
  if (known.size === 0) return [...windows]
  return windows.filter((window) => {
    for (const hash of hashesOf(window)) if (known.has(hash)) return false
    return true
  })
}

/** Odd factors of two rolling hashes, and what the token that leaves a stretch counts in them. */
const [first, second] = [0x9e3779b1, 0x85ebca6b]
const [firstOut, secondOut] = [powerOf(first), powerOf(second)]

/**
 * Yields a hash of 53 bits for each stretch of a window. Equal stretches have equal hashes. Among 10 million different stretches and a
 * million known ones, about one in a thousand texts loses a window to a chance match.
 */
function* hashesOf(window: Int32Array): Generator<number> {
  let [a, b] = [0, 0]
  for (let end = 0; end < window.length; end++) {
    const token = at(window, end) + 1
    a = (Math.imul(a, first) + token) | 0
    b = (Math.imul(b, second) + token) | 0
    if (end >= stretch) {
      const left = at(window, end - stretch) + 1
      a = (a - Math.imul(left, firstOut)) | 0
      b = (b - Math.imul(left, secondOut)) | 0
    }
    if (end >= stretch - 1) yield (a >>> 0) * 2 ** 21 + (b >>> 11)
  }
}

/** Returns `factor` to the power of the stretch, in 32 bits. */
function powerOf(factor: number): number {
  let power = 1
  for (let i = 0; i < stretch; i++) power = Math.imul(power, factor)
  return power
}

/** Cost of a forward and a backward pass, in forward passes. The backward pass multiplies once for inputs and once for weights. */
const trained = 3

/** Products with the head per trained window: the logits of both models, and the gradient of the final states. */
const headProducts = 3

/**
 * How long a training needs to make a weight that it does not keep, in bytes of weights that decoding reads meanwhile: to add the change to
 * it, or to read and unpack it first. Measured on Qwen2.5-Coder 1.5B (3 and 12 ns).
 */
const makingBytes: Readonly<Record<KeptMasters, number>> = { moments: 0, values: 72, shapes: 288 }

/**
 * Returns the work of a recovery.
 * @param windows that are trained on
 * @param kinds of held-out text
 * @param left the share of the block stack that the plan leaves
 * @returns the phases, and gigabytes of weights that decoding reads in the time in which training makes weights
 */
export function recoveryPhases(
  blocks: number,
  windows: number,
  kinds: number,
  left: number,
  { together, masters, entries }: Room,
): { readonly phases: MethodPhase[]; readonly making: number } {
  const heldOut = kinds * heldOutWindows
  const looks = measurementsOf(windows) + 1
  const measured = heldOut * looks
  const dense = (windows + heldOut) * blocks
  const own = blocks * left * (trained * windows + measured)
  const uses = 2 * Math.ceil(windows / together) + looks * kinds * Math.ceil(heldOutWindows / together)
  const phases = [
    { phase: readingDense, passes: { attention: dense, mlp: dense, head: 0 } },
    { phase: recovering, passes: { attention: own, mlp: own, head: headProducts * windows + 2 * measured } },
  ]
  return { phases, making: (uses * entries * makingBytes[masters]) / 1e9 }
}
