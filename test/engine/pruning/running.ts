import { afterAll, beforeAll } from 'vitest'
import type { Plan, TensorFile } from '#contract/pruning/plan.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { PlainAmount } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { StoredTensors, writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { Method, MethodResult, MethodRun, PassCount } from '#engine/pruning/method.ts'
import type { StateStore } from '#engine/pruning/recovery/training.ts'
import { nameStep, type StepRequest } from '#engine/steps/step-name.ts'
import { type ReferenceModel, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { tensorFolder } from '../../fixtures/store-tensors.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

/** A run's memory: steps by name, as JSON text, so that only what survives writing down is found again. */
export interface RecordedRun extends MethodRun, StateStore {
  readonly steps: Map<string, string>
  readonly events: RunEvent[]
  /** Names of the steps that were computed and not found. */
  readonly computed: string[]
  readonly passes: PassCount
}

/** A run on recorded steps; with `stopAfter` it dies when that many steps were written. */
export function recordedRun(seed = 0, steps = new Map<string, string>(), stopAfter = Number.POSITIVE_INFINITY): RecordedRun {
  const computed: string[] = []
  const passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  const events: RunEvent[] = []
  const step = async <T>(asked: StepRequest, compute: () => Promise<T> | T): Promise<T> => {
    const name = nameStep(asked, null)
    const known = steps.get(name)
    if (known !== undefined) return JSON.parse(known) as T
    if (steps.size >= stopAfter) throw new Error('killed')
    const result = await compute()
    computed.push(name)
    steps.set(name, JSON.stringify(result))
    return JSON.parse(steps.get(name) as string) as T
  }
  return {
    seed,
    signal: new AbortController().signal,
    steps,
    events,
    computed,
    passes,
    step,
    async tensorStep(asked, compute) {
      const { file, value } = await step(asked, async () => {
        const { tensors, ...value } = await compute()
        return { value, file: await writeTensorFile(tensorFolder(), tensors) }
      })
      return { ...value, tensors: await StoredTensors.open([file]) }
    },
    async findState<T>(asked: StepRequest) {
      const { value, file } = JSON.parse(steps.get(nameStep(asked, null)) ?? '{}') as { value: T; file?: TensorFile }
      return file && { value, tensors: await StoredTensors.open([file]) }
    },
    async putState(asked, state) {
      if (!state) return void steps.delete(nameStep(asked, null))
      steps.set(nameStep(asked, null), JSON.stringify({ value: state.value, file: await writeTensorFile(tensorFolder(), state.tensors) }))
    },
    progress: () => undefined,
    emit: (event) => void events.push(event),
    count(more) {
      passes.attention += more.attention
      passes.mlp += more.mlp
      passes.head += more.head
      if (more.recalled) passes.recalled = (passes.recalled ?? 0) + more.recalled
    },
  }
}

export interface Bench {
  readonly model: Model
  readonly calibration: Windows
  readonly test: Windows
}

/** Opens a reference model for the tests of a block and closes it after them. */
export function openReference(name: ReferenceModel): () => Bench {
  let bench: Bench | undefined
  beforeAll(async () => {
    await openBackend(testedBackend)
    bench = {
      model: await openModel(await referenceModel(name)),
      calibration: await referenceWindows('calibration'),
      test: await referenceWindows('test'),
    }
  })
  afterAll(() => bench?.model.close())
  return () => bench as Bench
}

export type Amount = PlainAmount

/** Runs a method on the dense model. */
export async function prune(
  method: Method,
  { model, calibration }: Bench,
  amount: Amount,
  given: object = {},
  run: MethodRun = recordedRun(),
): Promise<MethodResult> {
  const view = denseView(model)
  const options = method.options.parse(given)
  return method.plan({ view, calibration, budget: budgetFor(model.spec, amount), options, run })
}

/** What was measured of each model: several methods end with the same plan. */
const measured = new WeakMap<Model, { test: Windows; asked: string; perplexity: number }[]>()

export async function testPerplexity({ model, test }: Bench, plan: Plan, windows = test.length): Promise<number> {
  const known = measured.get(model) ?? []
  measured.set(model, known)
  const asked = JSON.stringify([plan, windows])
  const found = known.find((one) => one.test === test && one.asked === asked)
  if (found) return found.perplexity
  const view = viewWithPlan(model, plan)
  try {
    const result = await perplexity(view, test.slice(0, windows))
    known.push({ test, asked, perplexity: result.perplexity })
    return result.perplexity
  } finally {
    view.dispose()
  }
}

/** What was removed, as the reference writes it: 1 per block and submodule that is gone. */
export function masksOf(plan: Plan): { attention: number[]; mlp: number[] } {
  return {
    attention: plan.blocks.map((block) => (block.attention === 'removed' ? 1 : 0)),
    mlp: plan.blocks.map((block) => (block.mlp === 'removed' ? 1 : 0)),
  }
}

/** How far a perplexity is from the recorded one, relative to it. */
export const relativeError = (found: number, recorded: number): number => Math.abs(found / recorded - 1)
