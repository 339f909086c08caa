import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { blockPruner, submoduleBlockPruner } from '#engine/pruning/methods/blockpruner.ts'
import { shortgpt } from '#engine/pruning/methods/shortgpt.ts'
import { densePlan, variantOf, without } from '#engine/pruning/plan.ts'
import { GreedySearch } from '#engine/pruning/search/greedy.ts'
import type { Variant } from '#engine/pruning/search/trunk.ts'
import { VariantRanking } from '#engine/pruning/search/variant-ranking.ts'
import { VariantScorer } from '#engine/pruning/search/variants.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { expectedPasses } from '../../../bench/against/passes.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { openReference, prune, recordedRun } from '../running.ts'

describe.each(['mistral-tiny', 'phi-partial', 'mistral-window'] as const)('%s', (name) => {
  const open = openReference(name)

  const drawVariants = (count: number, removals: number): Variant[] => {
    const { spec } = open().model
    const random = new PythonRandom(3)
    const dense = variantOf(densePlan(spec))
    const parts = [...dense.keys()]
    return Array.from({ length: count }, () => without(dense, random.sample(parts, removals)))
  }

  test('gives every variant the same loss with sharing on and off', async () => {
    const { model, calibration } = open()
    const windows = [...calibration.slice(0, 2), calibration[2]?.subarray(0, 100) as Int32Array]
    const variants = drawVariants(7, 2)
    const scoresWith = async (sharing: boolean) => {
      const scorer = new VariantScorer(denseView(model), windows, { sharing })
      const scores = await scorer.score(variants)
      scorer.dispose()
      return scores
    }
    // Weights are read at first use and stay.
    const shared = await scoresWith(true)
    const before = memory().numTensors
    const alone = await scoresWith(false)
    shared.forEach((score, index) => {
      expect(Math.abs(score - (alone[index] ?? 0))).toBeLessThan(1e-6 * Math.max(1, Math.abs(score)))
    })
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })

  test('picks the same removals round after round when the trunk is kept as when nothing is shared', async () => {
    const { model, calibration } = open()
    const view = denseView(model)
    const windows = calibration.slice(0, 1)
    const search = new GreedySearch(new VariantRanking(view, windows, {}), { lazy: 0, run: recordedRun() })
    let base = variantOf(densePlan(view.spec))
    for (let round = 1; round <= Math.min(3, view.spec.blocks.length - 1); round++) {
      const candidates = [...base.keys()].filter((part) => base[part] === 0).map((part) => ({ block: part, parts: [part] }))
      const decision = await search.decide(base, candidates, { round, kind: 'attention', earlier: [] })
      const scorer = new VariantScorer(view, windows, { sharing: false })
      const losses = await scorer.score(candidates.map(({ parts }) => without(base, parts)))
      scorer.dispose()
      losses.forEach((loss, index) => {
        expect(Math.abs(Math.log(decision.scores[index]?.perplexity ?? 0) - loss)).toBeLessThan(1e-6 * loss)
      })
      expect(decision.block).toBe(candidates[losses.indexOf(Math.min(...losses))]?.block)
      base = without(base, [decision.block])
    }
    search.dispose()
  })
})

describe('counted passes', () => {
  const open = openReference('stories260k')

  test('equal the formulas of shared greedy searches', async () => {
    const blocks = open().model.spec.blocks.length
    for (const [id, method, amount] of [
      ['blockpruner', blockPruner, { blocks: 3 }],
      ['blockpruner_submodule', submoduleBlockPruner, { blocks: 2 }],
    ] as const) {
      const run = recordedRun()
      const { decisions } = await prune(method, open(), amount, {}, run)
      const expected = expectedPasses(id, { blocks }, { decisions, result: null, peakBytes: 0 })
      expect(run.passes).toEqual(expected)
      const rounds = decisions.length
      const scored = id === 'blockpruner' ? rounds * blocks - (rounds * (rounds - 1)) / 2 : 2 * 2 * blocks - 2 * (2 - 1)
      expect(run.passes.head, 'one head per candidate').toBe(scored)
      const { spec } = open().model
      const [work] = await method.work(spec, budgetFor(spec, amount), method.options.parse({}) as never, 1)
      expect(work?.passes.head, 'the estimate scores the same candidates').toBe(scored)
      expect(Math.abs(Math.log((work?.passes.attention ?? 0) / run.passes.attention))).toBeLessThan(Math.log(1.5))
    }
  })

  test('of 2SSP are one head per candidate of stage 2', async () => {
    const run = recordedRun()
    const blocks = open().model.spec.blocks.length
    const { decisions } = await prune(twoStage, open(), { sparsity: 0.5 }, { windows: 2 }, run)
    const removed = decisions.length
    expect(run.passes).toEqual(expectedPasses('2ssp', { blocks }, { decisions, result: null, peakBytes: 0 }))
    expect(run.passes.head).toBe(removed * blocks - (removed * (removed - 1)) / 2)
  })
})

describe('a streamed model', () => {
  const open = openReference('mistral-tiny')

  test('gives the plans that the resident one gives, and leaves no tensors', async () => {
    const bench = open()
    // Leaves every weight in memory, as the last of the runs below does.
    await prune(shortgpt, bench, { sparsity: 0.5 }, { windows: 1 })
    const before = memory().numTensors
    const streamed = await openModel(await referenceModel('mistral-tiny'), 1e6)
    expect(streamed.store.streams).toBe(true)
    for (const [method, given] of [
      [twoStage, { windows: 4 }],
      [shortgpt, { windows: 4 }],
    ] as const) {
      const resident = await prune(method as typeof twoStage, bench, { sparsity: 0.5 }, given)
      const result = await prune(method as typeof twoStage, { ...bench, model: streamed }, { sparsity: 0.5 }, given)
      expect(result.plan).toEqual(resident.plan)
      expect(result.decisions.map(({ block }) => block)).toEqual(resident.decisions.map(({ block }) => block))
    }
    await streamed.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })
})
