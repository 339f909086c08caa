import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Recovery, RecoveryRequest } from '#contract/pruning/recovery.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { productsForTraining } from '#engine/model/precision.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodRun } from '../method.ts'
import { FinalStates } from './final-states.ts'
import type { HeldOutKind } from './held-out.ts'
import { rank } from './low-rank.ts'
import { withoutOverlap } from './overlap.ts'
import { type Recipe, recipeFor } from './recipe.ts'
import { type Room, requireWholeHead, roomFor } from './room.ts'
import { type StateStore, Training } from './training.ts'

const recoveryStep: StepKind = { version: 5 }
const stateStep: StepKind = { version: 2, reach: 'own' }
const rateStep: StepKind = { version: 1, reach: 'own' }

export interface RecoveryText {
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
export async function recoverPlan(input: RecoveryInput): Promise<Recovered> {
  const { view, plan, request, heldOut, run } = input
  requireTrainable(view, plan)
  const room = roomFor(view.model.freeBytes, view.spec, plan, request.text.sequenceLength, request.trains)
  const recipe = await chooseRecipe(input, room)
  const { windows, used, notes } = await readText(input, recipe.tokens)
  const states = await FinalStates.of(view, [...windows, ...heldOut.flatMap((kind) => kind.windows)], run)
  const steps = Math.ceil(windows.length / recipe.windowsPerStep)
  const training = await openTraining(input, room)
  try {
    const { products, student } = training
    const { together } = room
    const on = { plan, recipe: { ...recipe }, windows, heldOut: heldOut.map((kind) => kind.windows), products, together }
    const state = { kind: stateStep, label: 'state of a recovery', on }
    const { tensors, lost, ...account } = await run.tensorStep({ kind: recoveryStep, label: 'recovery', on }, () =>
      training.run({ windows, states, heldOut, recipe, steps, run, state }),
    )
    await run.putState(state)
    const recovery: Recovered['recovery'] = {
      ...account,
      plannedSteps: steps,
      parameters: training.size,
      trains: room.trains,
      rate: recipe.rate,
      products: products === 'float32' ? 'float32' : 'bfloat16',
      text: used,
      heldOut: heldOut.map(({ kind, windows: own }) => ({ kind, windows: own.length })),
    }
    const allNotes = [...notes, ...(lost ? [lost] : []), ...notesOn(recovery, room)]
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
  return Training.open(view.model, spec, plan, tensors, productsForTraining(), run.signal, room)
}

/** Returns the recipe. Minutes are converted to tokens by the time of a first batch, which is measured once and stored. */
async function chooseRecipe(input: RecoveryInput, room: Room): Promise<Recipe> {
  const { request, view, plan, run } = input
  const { amount, text } = request
  if ('tokens' in amount) return recipeFor(view.spec, request, amount.tokens, room.trains)
  const shape = { batch: room.together, tokens: text.sequenceLength }
  const rate = await run.step({ kind: rateStep, label: 'speed of a recovery', on: { plan, shape, trains: room.trains } }, async () => {
    const training = await openTraining(input, room)
    return training.timeTokens(shape).finally(() => training.dispose())
  })
  return recipeFor(view.spec, request, Math.floor(60 * amount.minutes * rate), room.trains)
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
  requireWholeHead(model.vocabulary.chunkRows >= model.vocabulary.size, spec)
}
