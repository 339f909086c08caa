import { expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openModel } from '#engine/model/model.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { gates } from '#engine/pruning/methods/gates.ts'
import { expectedOf, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { prune, relativeError, testPerplexity } from '../../pruning/running.ts'
import type { TestedDevice } from './devices.ts'

interface Recorded {
  readonly '2ssp': readonly {
    readonly rate: number
    readonly kept_neurons: number[][]
    readonly removed_attention_in_order: number[]
    readonly ppl_test16_f64: number
  }[]
}

/** Errors of a perplexity, relative to the recorded one. */
const allowed: Readonly<Record<TestedDevice, number>> = { 'tensorflow-cpu': 1e-5, 'ggml-cpu': 1e-4, 'ggml-vulkan': 5e-4 }

/** Compares 2SSP on a device with the recorded choices and perplexity of a model. `npm run devices` runs every method on every model. */
export function testMethods(device: TestedDevice): void {
  test('2SSP chooses what the reference chose', async () => {
    const [calibration, windows] = [await referenceWindows('calibration'), await referenceWindows('test')]
    const model = await openModel(await referenceModel('llama3-rope'))
    const recorded = (await expectedOf<Recorded>('llama3-rope'))['2ssp'].at(-1)
    const bench = { model, calibration, test: windows.slice(0, 16) }
    const { plan, decisions } = await prune(twoStage, bench, { sparsity: recorded?.rate ?? Number.NaN }, { windows: 8 })
    expect(plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept))).toEqual(recorded?.kept_neurons)
    expect(decisions.map(({ block }) => block)).toEqual(recorded?.removed_attention_in_order)
    expect(relativeError(await testPerplexity(bench, plan), recorded?.ppl_test16_f64 ?? Number.NaN)).toBeLessThan(allowed[device])
    await model.close()
  })
  test.each(['llama3-rope', 'gemma3', 'olmoe'] as const)('gates of %s keep what they keep on the first device', async (name) => {
    const calibration = (await referenceWindows('calibration')).slice(0, 4).map((window) => window.slice(0, 32))
    const model = await openModel(await referenceModel(name))
    const { plan } = await prune(gates, { model, calibration, test: [] }, { sparsity: 0.25 }, { windows: 4, steps: 2 })
    await model.close()
    const [own, first] = [keptIn(plan), keptIn(firstPlans.get(name) ?? plan)]
    firstPlans.set(name, firstPlans.get(name) ?? plan)
    const others = own.filter((gate) => !first.includes(gate)).length
    // Equal in float32. Products of 16-bit operands change a few near the threshold; a small mixture has few gates, each of them an expert.
    expect(own.length - others).toBeGreaterThanOrEqual(Math.max(own.length, first.length) - Math.max(1, Math.floor(0.03 * own.length)))
  })
}

const firstPlans = new Map<string, Plan>()

/** Names of everything that stays: attention, neurons and experts. */
const keptIn = ({ blocks }: Plan): string[] =>
  blocks.flatMap(({ attention, mlp }, block) => {
    const kept = mlp === 'removed' ? [] : (mlp.experts ?? (mlp.kept === 'all' ? ['all'] : mlp.kept))
    return [`${block} ${attention}`, ...kept.map((index) => `${block}.${index}`)]
  })
