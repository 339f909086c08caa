import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { plan as planSchema } from '#contract/pruning/plan.ts'
import { runEvent } from '#contract/runs/run-events.ts'
import type { MethodId } from '#contract/titles.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { readSpec } from '#engine/architectures/index.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { expectedPlans } from '#engine/export/check-save.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { Model } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { Method, MethodResult } from '#engine/pruning/method.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { densePlan, reachedSparsity, removedParameters } from '#engine/pruning/plan.ts'
import { methods } from '#engine/pruning/registry.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { expectSameSteps } from '../../fixtures/expect-same.ts'
import { lacksAvx512 } from '../../fixtures/processor-features.ts'
import { familyModels, fullModels, mixtureModels, type ReferenceModel } from '../../fixtures/reference.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../model/logits.ts'
import { type Bench, openReference, prune, type RecordedRun, recordedRun } from './running.ts'

/**
 * What this loop must know about a method. Methods without an entry have no expensive options, refuse no model, and remove whole blocks.
 */
interface Case {
  /** Small values, because the loop covers everything; the tests of each method compare the recorded results. */
  readonly options?: object
  readonly refuses?: { readonly models: readonly ReferenceModel[]; readonly why: RegExp }
  /** The requested sparsity, and how closely the method reaches it. */
  readonly sparsity?: number
  readonly within?: number
}

const evolution: Case = { options: { generations: 2, offspring: 4, startStates: 4, windows: 4, finalWindows: 2 } }
const cases: Partial<Record<MethodId, Case>> = {
  '2ssp': { sparsity: 0.5 },
  gates: {
    options: { windows: 2, steps: 3, windowsPerStep: 1 },
    refuses: { models: ['gpt_oss'], why: /attention sinks/ },
    sparsity: 0.25,
    within: 0.07,
  },
  evopress: evolution,
  evopress_submodule: evolution,
  slicegpt: {
    refuses: { models: [...mixtureModels, 'gemma2', 'gemma3', 'olmo2', 'olmo3'], why: /cannot slice a \w+ model/ },
    sparsity: 0.5,
    within: 0.12,
  },
  // A router keeps at least as many experts as it picks, and two of each group.
  reap: { refuses: { models: [...fullModels, ...familyModels], why: /no mixtures of experts/ }, sparsity: 0.25, within: 0.07 },
}

/**
 * How a method stores and finds its steps does not depend on the family: a sequential one with a gated MLP, and a parallel one with a plain
 * MLP, are enough.
 */
const resumedOn: readonly ReferenceModel[] = ['stories260k', 'phi-tiny']

/** A mixture, and a model with two kinds of token mixers, run code that the others do not. */
const remadeOn: readonly ReferenceModel[] = [...resumedOn, 'olmoe', 'qwen3_5']

/**
 * Where a pair with a family runs no code of its own: ShortGPT measures the same states, and BlockPruner without whole blocks scores the
 * same variants and leaves plans of both kinds. These methods and EvoPress, which searches both kinds of variants, run on the models of `remadeOn`.
 */
const likeOthers: readonly MethodId[] = ['window_based', 'blockpruner', 'evopress', 'evopress_submodule']

async function lossOf({ model, test: windows }: Bench, plan: Plan, tensors?: MethodResult['tensors']): Promise<number> {
  const view = viewWithPlan(model, plan, tensors)
  try {
    return (await perplexity(view, windows)).perplexity
  } finally {
    view.dispose()
  }
}

/** The error of the last positions' logits from a session fed in two parts, compared with one pass without a cache. */
async function cacheError({ model, test: [window] }: Bench, plan: Plan, tensors?: MethodResult['tensors']): Promise<number> {
  const view = viewWithPlan(model, plan, tensors)
  const session = new DecodingSession(view)
  try {
    // Longer than the windows and convolutions of these models.
    const ids = window as Int32Array
    await session.feed(ids.subarray(0, 93), 1)
    const fed: number[][] = []
    for (let position = 93; position < 100; position++)
      fed.push([...((await session.feed(ids.subarray(position, position + 1), 1))[0] ?? [])])
    return relativeError(fed.flat(), (await logitsOf(view, ids)).slice(93).flat())
  } finally {
    session.dispose()
    view.dispose()
  }
}

/** Parameters in the block stack of a model saved in the exact format. */
async function savedStack(model: Model, { plan, tensors }: MethodResult): Promise<number> {
  const folder = scratchOfTest('saved')
  await exact.write({ model, plan, tensors, method: 'test', folder: join(folder, 'saved') })
  return (await describeModel(join(folder, 'saved'))).parameters.stack
}

const mixtures: readonly ReferenceModel[] = mixtureModels
const shorten = (windows: Windows, length: number) => windows.map((window) => window.subarray(0, length))

describe.each([...fullModels, ...familyModels, ...mixtureModels])('%s', (name) => {
  const opened = openReference(name)
  /** On mixtures, 2SSP removes experts first and REAP corrects gates. The plain variants are tested elsewhere. */
  const optionsOf = (id: MethodId) => {
    const ofMixture = { '2ssp': { experts: 0.25 }, reap: name === 'olmoe' ? { gateCorrection: 'fitted' } : {} }
    const own = mixtures.includes(name) && (id === '2ssp' || id === 'reap') ? ofMixture[id] : {}
    return { windows: 2, ...cases[id]?.options, ...own } as never
  }
  let bench: Bench | undefined
  // Short windows: nothing here depends on their length.
  const open = () => {
    bench ??= { ...opened(), calibration: shorten(opened().calibration, 64), test: shorten(opened().test.slice(0, 2), 100) }
    return bench
  }

  // The plan that each method below must return at sparsity 0.
  test('the plan that removes nothing changes nothing', async () => {
    const { model, test: windows } = open()
    const dense = await perplexity(denseView(model), windows)
    expect(await lossOf(open(), densePlan(model.spec))).toBe(dense.perplexity)
  })

  // Rows of a vocabulary are removed with a tokenizer, which most of these models lack: see `methods/vocabulary.test.ts`.
  const ofBlocks = (Object.keys(methods) as MethodId[]).filter(
    (id) => methods[id].unit !== 'vocabulary' && (remadeOn.includes(name) || !likeOthers.includes(id)),
  )
  describe.each(ofBlocks)('%s', (id) => {
    const method: Method = methods[id]

    const { refuses, sparsity = 0.5, within = 0.02 } = cases[id] ?? {}

    if (refuses?.models.includes(name)) {
      test('is refused before any work, and says so in the range that it can reach', async () => {
        await expect(prune(method, open(), { sparsity }, optionsOf(id))).rejects.toThrow(refuses.why)
        expect(method.range(open().model.spec, method.options.parse({}))).toEqual({ least: 0, most: 0 })
      })
      return
    }

    test('changes nothing at sparsity 0', async () => {
      const { plan, decisions, tensors } = await prune(method, open(), { sparsity: 0 }, optionsOf(id))
      expect(plan).toEqual(densePlan(open().model.spec))
      expect(decisions).toEqual([])
      expect(tensors).toBeUndefined()
    })

    let made: Promise<{ first: MethodResult; run: RecordedRun }> | undefined
    /** A run at half sparsity, made once for the tests below. */
    const makeOnce = () => {
      const make = async (run = recordedRun(3)) => ({
        first: await prune(method, open(), { sparsity }, optionsOf(id), run),
        run,
      })
      made ??= make()
      return made
    }

    if (remadeOn.includes(name))
      test('its plan is the same the second time, and no tensors are left over', async () => {
        const { first } = await makeOnce()
        const tensors = memory().numTensors
        expect((await prune(method, open(), { sparsity }, optionsOf(id), recordedRun(3))).plan).toEqual(first.plan)
        expect(memory().numTensors).toBe(tensors)
      })

    test('its plan says what it reached, and is valid', async () => {
      const { model } = open()
      const { first, run } = await makeOnce()
      expect(planSchema.parse(first.plan)).toEqual(first.plan)
      for (const event of run.events) expect(runEvent.safeParse(event).success).toBe(true)
      const reached = reachedSparsity(model.spec, first.plan)
      expect(reached).toBeCloseTo(removedParameters(model.spec, first.plan) / stackParameters(model.spec), 12)
      const { length } = model.spec.blocks
      const nominal = cases[id]?.sparsity ?? Math.ceil(length / 2) / length
      expect(Math.abs(reached - nominal)).toBeLessThan(
        Math.max(within, name.startsWith('glm') ? 0.15 : name.startsWith('qwen3_5') ? 0.05 : 0),
      )
      // If it matters which parts are removed, a preview cannot know the exact number of parameters.
      const { reached: previewed } = outlineOf(method, model.spec, budgetFor(model.spec, { sparsity }), method.options.parse(optionsOf(id)))
      if (previewed !== null) expect(reached).toBeCloseTo(previewed, 12)
      // The cache in transformers needs a kind of attention that this plan may remove.
      if (!name.startsWith('qwen3_5'))
        expect(await savedStack(model, first)).toBe(stackParameters(model.spec) - removedParameters(model.spec, first.plan))
      expect(Number.isFinite(await lossOf(open(), first.plan, first.tensors))).toBe(true)
      expect(await cacheError(open(), first.plan, first.tensors), 'the cached decoder equals the uncached one').toBeLessThan(
        name.startsWith('qwen3_5') ? (lacksAvx512 ? 1e-4 : 5e-5) : 1e-5,
      )
    })

    if (resumedOn.includes(name))
      test('a run that was killed ends with the same plan and computes nothing twice', async () => {
        const {
          first: { plan },
          run: whole,
        } = await makeOnce()
        const steps = new Map<string, string>()
        await expect(
          prune(method, open(), { sparsity }, optionsOf(id), recordedRun(3, steps, Math.floor(whole.steps.size / 2))),
        ).rejects.toThrow('killed')
        const before = [...steps.keys()]
        const resumed = recordedRun(3, steps)
        expect((await prune(method, open(), { sparsity }, optionsOf(id), resumed)).plan).toEqual(plan)
        expect(resumed.computed.filter((step) => before.includes(step))).toEqual([])
        expectSameSteps(steps, whole.steps)
        const again = recordedRun(3, steps)
        expect((await prune(method, open(), { sparsity }, optionsOf(id), again)).plan).toEqual(plan)
        expect(again.computed).toEqual([])
        expect(again.passes).toEqual({ attention: 0, mlp: 0, head: 0 })
      })
  })
})

/** Qwen3 of 32 billion parameters: 64 blocks of 25,600 neurons, more than a call can have arguments. */
const large = readSpec({
  model_type: 'qwen3',
  hidden_size: 5120,
  intermediate_size: 25_600,
  num_hidden_layers: 64,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 151_936,
  max_position_embeddings: 40_960,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
})

// REAP needs experts.
test.each(Object.keys(methods).filter((id) => id !== 'reap'))('%s can be previewed for a model of 32 billion parameters', async (id) => {
  const method: Method = methods[id as MethodId]
  const options = method.options.parse({})
  const { least, most } = method.range(large, options)
  const sparsity = Math.min(Math.max(0.25, least), most)
  const [plan] = expectedPlans(large, { method: id, amount: { sparsity }, options })
  expect(plan?.blocks).toHaveLength(64)
  expect(await method.work(large, budgetFor(large, { sparsity }), options, method.windows(options))).not.toEqual([])
})
