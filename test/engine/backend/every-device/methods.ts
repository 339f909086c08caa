import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { expectedOf, type ReferenceModel, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { type Bench, prune, relativeError } from '../../pruning/running.ts'
import type { TestedDevice } from './devices.ts'

interface Recorded {
  readonly dense: { readonly ppl_test16_f64: number }
  readonly '2ssp': readonly {
    readonly rate: number
    readonly kept_neurons: number[][]
    readonly removed_attention_in_order: number[]
    readonly ppl_test16_f64: number
  }[]
}

/** Errors of a perplexity, relative to the recorded one. */
const allowed: Readonly<Record<TestedDevice, number>> = { 'tensorflow-cpu': 1e-5, 'ggml-cpu': 1e-4, 'ggml-vulkan': 5e-4 }

async function withBench<T>(name: ReferenceModel, use: (bench: Bench, recorded: Recorded) => Promise<T>): Promise<T> {
  const [calibration, windows] = [await referenceWindows('calibration'), await referenceWindows('test')]
  const model = await openModel(await referenceModel(name))
  try {
    return await use({ model, calibration, test: windows.slice(0, 16) }, await expectedOf<Recorded>(name))
  } finally {
    await model.close()
  }
}

async function errorOf({ model, test: windows }: Bench, plan: Plan, recorded: number): Promise<number> {
  const view = viewWithPlan(model, plan)
  const found = await perplexity(view, windows)
  view.dispose()
  return relativeError(found.perplexity, recorded)
}

/** Holds 2SSP on a device to the recorded choices of a model, and to its perplexities. `npm run devices` runs every method on every model. */
export function testMethods(device: TestedDevice): void {
  test('2SSP chooses what the reference chose', async () => {
    await withBench('llama3-rope', async (bench, { dense, '2ssp': recorded }) => {
      const most = at(recorded, recorded.length - 1)
      expect(await errorOf(bench, densePlan(bench.model.spec), dense.ppl_test16_f64)).toBeLessThan(allowed[device])
      const { plan, decisions } = await prune(twoStage, bench, { sparsity: most.rate }, { windows: 8 })
      expect(plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept))).toEqual(most.kept_neurons)
      expect(decisions.map(({ block }) => block)).toEqual(most.removed_attention_in_order)
      expect(await errorOf(bench, plan, most.ppl_test16_f64)).toBeLessThan(allowed[device])
    })
  })
}
