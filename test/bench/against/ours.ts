import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Precision } from '#contract/pruning/precision.ts'
import { blockParameters } from '#engine/architectures/count-parameters.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { measureRate } from '#engine/backend/probe.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { isAttention } from '#engine/model/weights/weights.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodResult, MethodRun, PassCount } from '#engine/pruning/method.ts'
import { partsOf, variantOf } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { nameStep, type StepRequest } from '#engine/steps/step-name.ts'
import { storeTensors } from '../../fixtures/store-tensors.ts'

/** Espalier's side of the comparison: the same lines of JSON as reference.py, the methods through the registry as a run calls them. */

interface Request {
  readonly command: 'open' | 'rate' | 'run' | 'go' | 'end'
  readonly model: string
  readonly windows: string
  readonly precision: Precision
  readonly method: string
  readonly options: Record<string, number>
}

const answer = (values: object) => process.stdout.write(`${JSON.stringify(values)}\n`)
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

async function receive(): Promise<Request> {
  const { value, done } = await lines.next()
  return done ? ({ command: 'end' } as Request) : (JSON.parse(value) as Request)
}

let model: Model | undefined
let windows: Windows = []

/** Runs a method, or several with a plus between them, which share the steps that the runs of an experiment share. */
async function run(opened: Model, { method: names, options }: Request): Promise<void> {
  const { sparsity, blocks, ...given } = options
  const passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  const clock = new StepClock()
  const [results, shared]: [[string, MethodResult][], Map<string, unknown>] = [[], new Map()]
  for (const id of names.split('+')) {
    const method = findMethod(id)
    // A method without steps of its own counts as one.
    if (id === 'slicegpt') await clock.begin('rotations')
    const result = await method.plan({
      view: denseView(opened),
      calibration: windows,
      budget: budgetFor(opened.spec, blocks === undefined ? { sparsity: sparsity ?? 0 } : { blocks }),
      options: method.options.parse(given),
      run: recordingRun(clock, passes, shared),
    })
    results.push([id, result])
  }
  clock.finish()
  const [[id, result]] = results as [[string, MethodResult]]
  const choices = await Promise.all(results.map(([name, one]) => choicesOf(opened, name, one, options)))
  answer({
    result: choices.length === 1 ? choices[0] : { removed: choices.map((choice) => (choice as { removed: number[] }).removed) },
    passes,
    decisions: result.decisions.map(({ kind, block }) => ({ kind, block })),
    rescored: [...result.decisions, ...(result.selections ?? [])].flatMap(({ certified }) => certified?.rescored ?? []),
    peakBytes: 1024 * process.resourceUsage().maxRSS,
    stageOneProducts: id === '2ssp' ? passProducts(opened, windows[0]?.length ?? 0) * (given.windows ?? 0) : undefined,
  })
}

/** A step begins with a "go" and ends where the next one is about to begin, so that everything between them counts too. */
class StepClock {
  #name: string | undefined
  #start = 0

  async begin(name: string): Promise<void> {
    this.finish()
    answer({ waiting: name })
    await receive()
    this.#name = name
    this.#start = performance.now()
  }

  finish(): void {
    if (this.#name !== undefined) answer({ step: this.#name, seconds: (performance.now() - this.#start) / 1000 })
    this.#name = undefined
  }
}

function recordingRun(clock: StepClock, passes: PassCount, shared: Map<string, unknown>): MethodRun {
  const step = async <T>({ label }: StepRequest, compute: () => Promise<T> | T): Promise<T> => {
    await clock.begin(label)
    return compute()
  }
  return {
    seed: 0,
    signal: new AbortController().signal,
    async step<T>(asked: StepRequest, compute: () => Promise<T> | T) {
      if (asked.kind.reach !== 'shared') return step(asked, compute)
      const name = nameStep(asked, null)
      if (!shared.has(name)) shared.set(name, await step(asked, compute))
      return shared.get(name) as T
    },
    tensorStep: async (asked, compute) => storeTensors(await step(asked, compute)),
    progress: () => undefined,
    emit: () => undefined,
    count(more) {
      passes.attention += more.attention
      passes.mlp += more.mlp
      passes.head += more.head
    },
  }
}

/** The choices, in the terms of reference.py. */
async function choicesOf(opened: Model, id: string, result: MethodResult, options: Record<string, number>): Promise<object> {
  const { plan, decisions, selections } = result
  if (plan.slice) {
    const view = viewWithPlan(opened, plan, result.tensors)
    const loss = Math.log((await perplexity(view, windows.slice(0, 1))).perplexity)
    view.dispose()
    return { width: plan.slice.width, loss }
  }
  const removed = partsOf(variantOf(plan))
  if (id === 'shortgpt' || id === 'window_based') return { removed: removed.filter(isAttention).map((part) => part / 2) }
  if (selections) {
    const survivors = selections
      .filter(({ generation }) => generation > 0)
      .filter((_, index) => index % 2 === 1)
      .map(({ candidates, survivors: [first] }) =>
        (candidates[first as number] as string)
          .split('/')
          .map((digits) => [...digits].flatMap((digit, block) => (digit === '1' ? [block] : []))),
      )
    return { order: survivors.slice(0, options.generations) }
  }
  const order = decisions.map(({ kind, block }) => 2 * block + (kind === 'mlp' ? 1 : 0))
  if (id !== '2ssp') return { order }
  return { kept: plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept)), order }
}

/** Floating-point operations in the products of one pass over the block stack, with attention counted as a triangle. */
function passProducts({ spec }: Model, tokens: number): number {
  return spec.blocks.reduce((sum, _, block) => {
    const { attention, mlp } = blockParameters(spec, block)
    // The last MLP's down projection is not needed.
    const down = block === spec.blocks.length - 1 ? spec.hidden * spec.intermediate : 0
    return sum + 2 * tokens * (attention + mlp - down) + 2 * tokens * (tokens + 1) * spec.heads * spec.headSize
  }, 0)
}

for (let request = await receive(); request.command !== 'end'; request = await receive()) {
  if (request.command === 'open') {
    const backend = await openBackend()
    const opened = await openModel(request.model)
    model = withProducts(opened, productsFor(resolvePrecision(request.precision, opened.spec)))
    windows = (JSON.parse(readFileSync(request.windows, 'utf8')) as number[][]).map((ids) => Int32Array.from(ids))
    // As on PyTorch's side, the first step finds weights and memory in use.
    await perplexity(denseView(model), windows.slice(0, 1))
    answer({ title: backend.title, weightBytes: [...model.checkpoint.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0) })
  } else if (request.command === 'rate') {
    answer({ rate: await measureRate(2048, 5) })
  } else if (request.command === 'run' && model) {
    await run(model, request)
  }
}
await model?.close()
