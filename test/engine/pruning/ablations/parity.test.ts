import { beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { denseView } from '#engine/model/views/view.ts'
import { planTwoStages, type TwoStageOptions, twoStage } from '#engine/pruning/methods/2ssp.ts'
import { nestedColumnNorms } from '#engine/pruning/scores/mlp-scores.ts'
import { expectedOf, fullModels } from '../../../fixtures/reference.ts'
import { masksOf, openReference, prune, recordedRun, relativeError, testPerplexity } from '../running.ts'

interface Recorded {
  readonly rate: number
  readonly feasible?: boolean
  readonly P?: number
  readonly P_forced?: number
  readonly kept_neurons?: number[][]
  readonly kept_inputs?: number[][]
  readonly kept_outputs?: number[][]
  readonly cut_rel_margin?: number[]
  readonly cut_rel_margin_inputs?: number[]
  readonly cut_rel_margin_outputs?: number[]
  readonly removed_attention_in_order?: number[]
  readonly true_sparsity_of_blocks: number
  readonly calibration_windows?: number
  readonly ppl_test_f64: number
}

interface Expected {
  readonly ablations: Record<'one_stage' | 'l1_norm' | 'balancing_sparsity_ratio' | 'calibration_sizes_seed0_s0.5', Recorded[]> & {
    rows_vs_cols?: Recorded[]
  }
}

type Column = 'kept' | 'inputs' | 'outputs'

/** Equal, or different by one neuron at a cut that the reference lists as a near-tie; then prints the margin. */
function expectSameColumns(plan: Plan, column: Column, recorded: number[][] | undefined, margins: number[] = []): boolean {
  let same = true
  recorded?.forEach((expected, block) => {
    const mlp = plan.blocks[block]?.mlp
    const own = mlp && mlp !== 'removed' ? mlp[column] : undefined
    const swapped = Array.isArray(own) ? expected.filter((neuron) => !own.includes(neuron)) : expected
    if (Array.isArray(own) && own.length === expected.length && swapped.length === 1 && (margins[block] ?? 1) < 1e-4) {
      same = false
      console.log(`near-tie: block ${block} differs by one ${column} column, recorded margin ${margins[block]}`)
    } else expect(own).toEqual(expected)
  })
  return same
}

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)
  let expected: Expected['ablations']
  beforeAll(async () => {
    expected = (await expectedOf<Expected>(name)).ablations
  })

  function recordedOf(id: keyof Expected['ablations']): Recorded[] {
    const recorded = expected[id]
    if (Array.isArray(recorded)) return recorded
    throw new Error(`Nothing is recorded of ${id} on ${name}: ${recorded}`)
  }

  const cases = [
    ['one_stage', { stages: 'first' }],
    ['l1_norm', { norm: 1 }],
    ['rows_vs_cols', { cut: 'channels', channelShare: 'whole' }],
    ['balancing_sparsity_ratio', {}],
  ] as [keyof Expected['ablations'], Partial<TwoStageOptions>][]

  // For phi and phi3 the reference stops at rows_vs_cols.
  const recordedCases = cases.filter(([id]) => id !== 'rows_vs_cols' || !name.startsWith('phi'))

  /** The passes and rounds that cases of this model share. */
  const steps = new Map<string, string>()

  test.each(recordedCases)('%s keeps, removes and scores what the reference did', async (id, options) => {
    const passes: string[] = []
    for (const [index, recorded] of recordedOf(id).entries()) {
      const own = recordedRun(0, steps)
      const forced = recorded.P_forced === undefined ? options : { ...options, attention: recorded.P_forced }
      const planned = prune(twoStage, open(), { sparsity: recorded.rate }, forced, own)
      if (recorded.feasible === false) {
        await expect(planned).rejects.toThrow('cannot be reached')
        continue
      }
      const { plan, decisions } = await planned
      passes.push(...own.computed.filter((name) => name.includes('norms')))
      const same = [
        expectSameColumns(plan, 'kept', recorded.kept_neurons, recorded.cut_rel_margin),
        expectSameColumns(plan, 'inputs', recorded.kept_inputs, recorded.cut_rel_margin_inputs),
        expectSameColumns(plan, 'outputs', recorded.kept_outputs, recorded.cut_rel_margin_outputs),
      ]
      expect(decisions.map(({ block }) => block)).toEqual(recorded.removed_attention_in_order ?? [])
      // Of the plans that keep neurons one: equal plans test the same forward pass.
      if (same.every(Boolean) && (id === 'rows_vs_cols' || index === 0)) {
        expect(relativeError(await testPerplexity(open(), plan), recorded.ppl_test_f64)).toBeLessThan(1e-4)
      }
    }
    expect(passes.length, 'one pass for all').toBeLessThanOrEqual(1)
  })

  test('calibration: one pass over all windows scores every size as the reference did', async () => {
    const { model, calibration } = open()
    const view = denseView(model)
    const cases = expected['calibration_sizes_seed0_s0.5']
    const sizes = cases.map((recorded) => recorded.calibration_windows ?? 0)
    const request = { site: 'neurons', norm: 'l2' } as const
    const norms = await nestedColumnNorms(view, calibration, [request], sizes, {})
    for (const [index, recorded] of cases.entries()) {
      const neurons = (norms.get(request)?.get(recorded.calibration_windows ?? 0) ?? []).map((block) => [...block])
      const input = { view, calibration, budget: { sparsity: 0.5, blocks: 0 }, options: twoStage.options.parse({}), run: recordedRun() }
      const { plan } = await planTwoStages(input, async () => ({ neurons }))
      const same = expectSameColumns(plan, 'kept', recorded.kept_neurons, recorded.cut_rel_margin)
      expect(masksOf(plan).attention.filter((removed) => removed === 1)).toHaveLength(recorded.removed_attention_in_order?.length ?? 0)
      for (const block of recorded.removed_attention_in_order ?? []) expect(plan.blocks[block]?.attention).toBe('removed')
      if (same && index === 0) expect(relativeError(await testPerplexity(open(), plan), recorded.ppl_test_f64)).toBeLessThan(1e-4)
    }
  })
})
