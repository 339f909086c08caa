import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { denseView } from '#engine/model/views/view.ts'
import { shortgpt } from '#engine/pruning/methods/shortgpt.ts'
import { windowBased } from '#engine/pruning/methods/window-based.ts'
import { allTokenSimilarities, lastTokenSimilarities } from '#engine/pruning/scores/block-similarity.ts'
import { expectedOf, fullModels, variedModels } from '../../../fixtures/reference.ts'
import { masksOf, openReference, prune, recordedRun, relativeError, testPerplexity } from '../running.ts'

interface RecordedPlan {
  readonly K: number
  readonly attn_mask: number[]
  readonly mlp_mask: number[]
  readonly ppl_test_f64: number
}

interface Expected {
  readonly shortgpt: RecordedPlan[]
  readonly window_based: RecordedPlan[]
  readonly shortgpt_window_scores: { readonly shortgpt_influence: number[]; readonly window_mean_cosine: Record<string, number[]> }
}

const blocksOf = (mask: readonly number[]) => mask.flatMap((removed, block) => (removed ? [block] : []))

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)
  let expected: Expected
  beforeAll(async () => {
    expected = await expectedOf<Expected>(name)
  })
  /** What each method computed once for this model. */
  const steps = { shortgpt: new Map<string, string>(), window_based: new Map<string, string>() }

  test.each([
    ['shortgpt', shortgpt],
    ['window_based', windowBased],
  ] as const)('%s removes the blocks that the reference removed', async (id, method) => {
    const run = recordedRun(0, steps[id])
    for (const recorded of expected[id]) {
      const { plan, decisions } = await prune(method, open(), { blocks: recorded.K }, {}, run)
      expect(masksOf(plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      expect(decisions.map(({ block }) => block).toSorted((a, b) => a - b)).toEqual(blocksOf(recorded.attn_mask))
      // The masks decide the forward pass, so one plan is measured.
      if (recorded === expected[id].at(-1))
        expect(relativeError(await testPerplexity(open(), plan), recorded.ppl_test_f64)).toBeLessThan(1e-4)
    }
    expect(run.computed, 'one pass serves every count').toHaveLength(1)
  })

  test('decisions hold the scores of the reference under the name of the measure, best first', async () => {
    const { shortgpt_influence: influence, window_mean_cosine: cosines } = expected.shortgpt_window_scores
    const K = Math.min(2, open().model.spec.blocks.length - 1)
    const depth = (await prune(shortgpt, open(), { blocks: K }, {}, recordedRun(0, steps.shortgpt))).decisions
    for (const { scores, block, round } of depth) {
      expect(scores).toHaveLength(influence.length - round + 1)
      for (const score of scores) expect(score.influence).toBeCloseTo(influence[score.block] ?? 0, 5)
      expect(scores.find((score) => score.block === block)?.influence).toBe(Math.min(...scores.map(({ influence }) => influence ?? 2)))
    }
    const [first, ...others] = (await prune(windowBased, open(), { blocks: K }, {}, recordedRun(0, steps.window_based))).decisions
    expect(first?.scores.map(({ block }) => block)).toEqual((cosines[K] ?? []).map((_, index) => index + 1))
    for (const { block, similarity } of first?.scores ?? []) expect(similarity).toBeCloseTo(cosines[K]?.[block - 1] ?? 0, 5)
    expect(first?.scores.find(({ block }) => block === first.block)?.similarity).toBe(
      Math.max(...(first?.scores ?? []).map(({ similarity }) => similarity ?? 0)),
    )
    expect(others.map(({ block, scores }) => [block, scores])).toEqual([[(first?.block ?? 0) + 1, []]])
  })

  test('similarities are those of the reference, at both distances and scopes', async () => {
    const { model, calibration } = open()
    const view = denseView(model)
    const tensors = memory().numTensors
    const similarities = await lastTokenSimilarities(view, calibration, {})
    for (const [distance, cosines] of Object.entries(expected.shortgpt_window_scores.window_mean_cosine)) {
      cosines.forEach((cosine, index) => {
        expect(similarities[Number(distance)]?.[index + 1]?.cosine).toBeCloseTo(cosine, 5)
      })
    }
    const all = await allTokenSimilarities(view, calibration.slice(0, 4), 2, {})
    const short = calibration.slice(0, 1).map((window) => window.slice(0, 1))
    const [one, last] = [await allTokenSimilarities(view, short, 2, {}), await lastTokenSimilarities(view, short, {})]
    expect(all[2]).toHaveLength(model.spec.blocks.length - 1)
    one[2]?.forEach(({ cosine }, index) => {
      expect(cosine, 'one token is the last one').toBeCloseTo(last[2]?.[index]?.cosine ?? 0, 5)
    })
    expect(memory().numTensors - tensors).toBe(0)
  })

  test('options of the papers score the first block and all tokens', async () => {
    const { plan, decisions } = await prune(
      shortgpt,
      open(),
      { blocks: 1 },
      { tokens: 'all', similarity: 'angular', firstBlock: 'scored', windows: 4 },
    )
    expect(masksOf(plan).attention.reduce((a, b) => a + b)).toBe(1)
    expect(decisions[0]?.scores.every(({ angle = 1 }) => angle > 0 && angle < 1)).toBe(true)
    const { length } = open().model.spec.blocks
    const all = await prune(windowBased, open(), { blocks: length }, { firstBlock: 'free', windows: 4 })
    expect(masksOf(all.plan).mlp).toEqual(Array(length).fill(1))
    await expect(prune(windowBased, open(), { blocks: length }, { windows: 4 })).rejects.toThrow(`Choose at most ${length - 1}`)
  })
})

describe.each(variedModels)('%s', (name) => {
  const open = openReference(name)

  test('shortgpt removes the blocks that the reference removed', async () => {
    const expected = await expectedOf<Expected>(name)
    for (const recorded of expected.shortgpt) {
      const { plan } = await prune(shortgpt, open(), { blocks: recorded.K })
      expect(masksOf(plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
    }
  })
})
