import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel, openSpec, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { type MethodResult, parseOptions } from '#engine/pruning/method.ts'
import { reap } from '#engine/pruning/methods/reap.ts'
import { runtimeTypes } from '../../../fixtures/processor-features.ts'
import { expectedOf, type MixtureModel, mixtureModels, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { asOnGpu, computeWith } from '../../backend/as-on-gpu.ts'
import { type Bench, prune, recordedRun, relativeError } from '../running.ts'

type ByBlock<T> = Readonly<Record<string, T>>
interface Recorded {
  readonly rate: number
  readonly removed: ByBlock<number[]>
  readonly ppl_test_f64: number
}
interface Expected {
  readonly experts: {
    readonly windows: number
    readonly count: ByBlock<number[]>
    readonly reap: ByBlock<number[]>
    readonly reap_sum: ByBlock<number[]>
    readonly order: ByBlock<number[]>
    readonly order_by_sum: ByBlock<number[]>
    readonly order_by_count: ByBlock<number[]>
    readonly uniform: readonly (Recorded & { readonly by_count: Omit<Recorded, 'rate'> })[]
    readonly free?: readonly (Recorded & { readonly score: 'reap' | 'reap_sum' })[]
    readonly constant: readonly (Recorded & { readonly ppl_test_f64_g2_mean: number })[]
  }
}

const backend = await openBackend(testedBackend)

describe.each(mixtureModels)('%s in float32', (name) => holdToRecorded(name, 'float32'))
describe.skipIf(!backend.bf16).each(mixtureModels)('%s in mixed precision', (name) => holdToRecorded(name, 'mixed'))
describe.runIf(testedBackend === 'tensorflow' && runtimeTypes.includes('bfloat16')).each(['olmoe'] as const)(
  '%s in mixed precision as on a GPU',
  (name) => {
    computeWith(asOnGpu('bfloat16'))
    holdToRecorded(name, 'mixed')
  },
)

/** Numbers of the experts that a plan removes, by block. */
const goneOf = ({ blocks }: Plan, count: number): Record<string, number[]> =>
  Object.fromEntries(
    blocks.flatMap(({ mlp }, block) => {
      if (mlp === 'removed' || !mlp.experts) return []
      const { experts } = mlp
      return [[block, Array.from({ length: count }, (_, expert) => expert).filter((expert) => !experts.includes(expert))]]
    }),
  )

const withoutEmpty = (removed: ByBlock<number[]>) => Object.fromEntries(Object.entries(removed).filter(([, own]) => own.length > 0))

test('fitted constants are refused where experts are dropped', () => {
  expect(() => parseOptions(reap, { constants: 'fitted' })).toThrow('constants is "fitted". Removed experts are dropped, so')
  expect(parseOptions(reap, { removed: 'constant', constants: 'fitted' }).constants).toBe('fitted')
})

test('a gate correction is refused where no factor rises', async () => {
  expect(() => parseOptions(reap, { removed: 'constant', gateCorrection: 'fitted' })).toThrow('Choose removed=dropped')
  const fitted = parseOptions(reap, { gateCorrection: 'fitted' })
  const outline = async (name: MixtureModel) =>
    reap.outline?.((await openSpec(await referenceModel(name))).spec, { sparsity: 0.1, blocks: 1 }, fitted)
  await expect(outline('glm4_moe')).rejects.toThrow('In a glm4_moe model, the factors of experts do not rise when others are removed')
  await expect(outline('granitemoe')).rejects.toThrow('Choose gateCorrection=none')
  await expect(outline('olmoe')).resolves.toMatchObject({ attentionRemoved: 0 })
})

function holdToRecorded(name: MixtureModel, precision: 'float32' | 'mixed'): void {
  let bench: Bench
  let recorded: Expected['experts']
  beforeAll(async () => {
    recorded = (await expectedOf<Expected>(name)).experts
    const model = await openModel(await referenceModel(name))
    bench = {
      model: precision === 'mixed' ? withProducts(model, productsFor('mixed')) : model,
      calibration: await referenceWindows('calibration'),
      test: await referenceWindows('test'),
    }
  })
  afterAll(() => bench.model.close())

  // One pass of the dense model serves all of them.
  const steps = new Map<string, string>()
  const run = ({ share, ...options }: { readonly share: number; readonly [option: string]: unknown }) =>
    prune(
      reap,
      bench,
      { experts: share },
      { windows: recorded.windows, superExperts: 'scored', ...options } as never,
      recordedRun(0, steps),
    )

  async function expectPerplexity({ plan, tensors }: MethodResult, expected: number): Promise<void> {
    const view = viewWithPlan(bench.model, plan, tensors)
    const found = await perplexity(view, bench.test.slice(0, 16))
    view.dispose()
    expect(relativeError(found.perplexity, expected)).toBeLessThan(1e-4)
  }

  test('has the recorded tokens, scores and orders of all experts', async () => {
    for (const [score, order] of [
      ['reap', recorded.order],
      ['reap_sum', recorded.order_by_sum],
      ['count', recorded.order_by_count],
    ] as const) {
      const { experts } = await run({ share: 0.25, score })
      expect(experts?.blocks.map(({ block }) => String(block))).toEqual(Object.keys(recorded.count))
      for (const { block, tokens, scores } of experts?.blocks ?? []) {
        expect(tokens).toEqual(recorded.count[block])
        for (const [expert, own] of scores.entries()) expect(relativeError(own, recorded[score][block]?.[expert] ?? 0)).toBeLessThan(1e-5)
        expect([...scores.keys()].sort((a, b) => (scores[a] ?? 0) - (scores[b] ?? 0) || a - b)).toEqual(order[block])
      }
    }
  })

  // The removed experts decide the forward pass, so one plan is measured.
  test('removes the recorded experts of each mixture, the same number of each', async () => {
    for (const [index, expected] of recorded.uniform.entries()) {
      const result = await run({ share: expected.rate })
      expect(goneOf(result.plan, 8)).toEqual(expected.removed)
      const byCount = await run({ share: expected.rate, score: 'count' })
      expect(goneOf(byCount.plan, 8)).toEqual(expected.by_count.removed)
      if (index === 0) await expectPerplexity(result, expected.ppl_test_f64)
    }
  })

  test.skipIf(name === 'glm4_moe-groups')('removes the recorded experts of all mixtures together', async () => {
    for (const [index, expected] of (recorded.free ?? []).entries()) {
      const result = await run({ share: expected.rate, score: expected.score, budget: 'free' })
      expect(goneOf(result.plan, 8)).toEqual(withoutEmpty(expected.removed))
      // Mixtures of different sizes.
      if (index === 0 && precision === 'float32') await expectPerplexity(result, expected.ppl_test_f64)
    }
  })

  test('replaces experts by their mean outputs', async () => {
    for (const expected of precision === 'mixed' ? recorded.constant.slice(0, 1) : recorded.constant)
      await expectPerplexity(await run({ share: expected.rate, removed: 'constant' }), expected.ppl_test_f64)
  })

  test.skipIf(precision === 'mixed')('replaces experts by the vectors that least squares find', async () => {
    const [{ rate, ppl_test_f64_g2_mean: fitted } = { rate: 0, ppl_test_f64_g2_mean: 0 }] = recorded.constant
    await expectPerplexity(await run({ share: rate, removed: 'constant', constants: 'fitted' }), fitted)
  })
}
