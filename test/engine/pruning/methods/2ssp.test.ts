import { beforeAll, describe, expect, it } from 'vitest'
import { blockParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { reachedSparsity, removedParameters } from '#engine/pruning/plan.ts'
import { expectedOf, familyModels, fullModels, referenceModel, referenceWindows, variedModels } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { recordedRun } from '../running.ts'

interface Recorded {
  readonly '2ssp': readonly {
    readonly rate: number
    readonly P: number
    readonly kept_neurons: number[][]
    readonly removed_attention_in_order: number[]
    readonly stage2_rounds: readonly { readonly candidates: readonly { readonly block: number; readonly ppl: number }[] }[]
    readonly true_sparsity_of_blocks: number
    readonly ppl_test_f64?: number
    readonly ppl_test16_f64?: number
  }[]
}

interface RecordedFamily {
  readonly '2ssp': readonly (Pick<
    Recorded['2ssp'][number],
    'rate' | 'P' | 'kept_neurons' | 'removed_attention_in_order' | 'stage2_rounds'
  > & {
    readonly cut_rel_margin: readonly number[]
    readonly ppl_test: number
  })[]
}

/** How many kept neurons differ from the recorded ones: none, or one if the cut is nearly a tie. */
function swapped(kept: 'all' | readonly number[], recorded: RecordedFamily['2ssp'][number], block: number): number {
  const expected = recorded.kept_neurons[block] ?? []
  const others = [...kept].filter((neuron) => !expected.includes(neuron as number)).length
  expect(kept).toHaveLength(expected.length)
  expect(others).toBeLessThanOrEqual((recorded.cut_rel_margin[block] ?? 1) < 1e-4 ? 1 : 0)
  return others
}

describe('2SSP against the reference', () => {
  beforeAll(() => openBackend(testedBackend))

  it.each([...fullModels, ...variedModels])('keeps the neurons and removes the attention of %s in the recorded order', async (name) => {
    const [calibration, test] = [await referenceWindows('calibration'), await referenceWindows('test')]
    const model = await openModel(await referenceModel(name))
    // Sparsities share what does not depend on them.
    const steps = new Map<string, string>()
    const recordings = (await expectedOf<Recorded>(name))['2ssp']
    for (const recorded of recordings) {
      const short = recorded.ppl_test16_f64 !== undefined
      const options = twoStage.options.parse({ windows: short ? 8 : 32 })
      const budget = { sparsity: recorded.rate, blocks: Math.ceil(recorded.rate * model.spec.blocks.length) }
      const { plan, decisions } = await twoStage.plan({ view: denseView(model), calibration, budget, options, run: recordedRun(0, steps) })
      expect(plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept))).toEqual(recorded.kept_neurons)
      expect(decisions.map(({ block }) => block)).toEqual(recorded.removed_attention_in_order)
      // The reference counts the norms before removed attention as kept; a parallel MLP reads through them, so there they do stay.
      const norms = decisions.map(({ block }) => (model.spec.parallelResidual ? 0 : blockParameters(model.spec, block).attentionNorm))
      const withoutNorms = removedParameters(model.spec, plan) - norms.reduce((total, norm) => total + norm, 0)
      expect(withoutNorms / stackParameters(model.spec)).toBeCloseTo(recorded.true_sparsity_of_blocks, 9)
      recorded.stage2_rounds.forEach(({ candidates }, round) => {
        for (const { block, ppl } of candidates) {
          const found = decisions[round]?.scores.find((score) => score.block === block)?.perplexity ?? Number.NaN
          expect(Math.abs(found / ppl - 1), `round ${round + 1}, block ${block}`).toBeLessThan(1e-4)
        }
      })
      // The kept neurons and attentions decide the forward pass, so the first and the last plan are measured.
      if (recorded !== recordings[0] && recorded !== recordings.at(-1)) continue
      const view = viewWithPlan(model, plan)
      const found = await perplexity(view, short ? test.slice(0, 16) : test)
      expect(Math.abs(found.perplexity / (recorded.ppl_test16_f64 ?? recorded.ppl_test_f64 ?? Number.NaN) - 1)).toBeLessThan(1e-5)
      view.dispose()
    }
    await model.close()
  })

  it.each(familyModels.filter((name) => name !== 'gemma2' && name !== 'qwen3_5'))(
    'decides on %s as an independent program for transformers does',
    async (name) => {
      const [calibration, test] = [await referenceWindows('calibration'), await referenceWindows('test')]
      const model = await openModel(await referenceModel(name))
      for (const recorded of (await expectedOf<RecordedFamily>(name))['2ssp']) {
        const budget = { sparsity: recorded.rate, blocks: Math.ceil(recorded.rate * model.spec.blocks.length) }
        const options = twoStage.options.parse({ windows: 8 })
        const { plan, decisions } = await twoStage.plan({ view: denseView(model), calibration, budget, options, run: recordedRun() })
        expect(decisions).toHaveLength(recorded.P)
        const exact = plan.blocks
          .map(({ mlp }, block) => swapped(mlp === 'removed' ? [] : mlp.kept, recorded, block))
          .every((count) => count === 0)
        expect(decisions.map(({ block }) => block)).toEqual(recorded.removed_attention_in_order)
        recorded.stage2_rounds.forEach(({ candidates }, round) => {
          for (const { block, ppl } of candidates) {
            const found = decisions[round]?.scores.find((score) => score.block === block)?.perplexity ?? Number.NaN
            expect(Math.abs(found / ppl - 1), `round ${round + 1}, block ${block}`).toBeLessThan(1e-4)
          }
        })
        const view = viewWithPlan(model, plan)
        if (exact) expect(Math.abs((await perplexity(view, test.slice(0, 16))).perplexity / recorded.ppl_test - 1)).toBeLessThan(1e-5)
        view.dispose()
      }
      await model.close()
    },
  )

  it('removes nothing at sparsity 0', async () => {
    const model = await openModel(await referenceModel('stories260k'))
    const { plan } = await twoStage.plan({
      view: denseView(model),
      calibration: [],
      budget: { sparsity: 0, blocks: 0 },
      options: twoStage.options.parse({}),
      run: recordedRun(),
    })
    expect(reachedSparsity(model.spec, plan)).toBe(0)
    await model.close()
  })
})
