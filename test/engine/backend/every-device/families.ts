import { memory } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { plainCalls } from '#engine/backend/ggml/plain-kernels.ts'
import { openModel } from '#engine/model/model.ts'
import { checkOperations } from '#engine/model/self-test.ts'
import { denseView } from '#engine/model/views/view.ts'
import {
  expectedOf,
  familyModels,
  fullModels,
  mixtureModels,
  type ReferenceModel,
  referenceModel,
  referenceWindows,
  variedModels,
} from '../../../fixtures/reference.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'
import { runsAllModels, type TestedDevice } from './devices.ts'

interface Recorded {
  readonly dense: { readonly logits_at?: Record<string, number[]>; readonly logits_short_prompt_60?: number[] }
  readonly generation?: { readonly dense: readonly { readonly prompt_ids: number[]; readonly last_logits_f64_own_forward: number[] }[] }
}

/** Errors of a row of logits, relative to its largest. */
const allowed: Readonly<Record<TestedDevice, number>> = { 'tensorflow-cpu': 1e-5, 'ggml-cpu': 1e-5, 'ggml-vulkan': 2e-4 }

/** DeltaNets in float32 deviate more from the recorded logits. */
const factors: Partial<Record<ReferenceModel, number>> = { qwen3_5: 2 }

/** Positions of a text and the logits recorded there. */
function recordedLogits({ dense, generation }: Recorded, first: Int32Array): { ids: Int32Array; logits: [number, number[]][] }[] {
  if (dense.logits_at)
    return [{ ids: first, logits: Object.entries(dense.logits_at).map(([position, logits]) => [Number(position), logits]) }]
  return (generation?.dense ?? []).map(({ prompt_ids: ids, last_logits_f64_own_forward: logits }) => ({
    ids: Int32Array.from(ids),
    logits: [[ids.length - 1, logits]],
  }))
}

/** Compares the decoder on a device with the recorded logits of all reference models. */
export function testFamilies(device: TestedDevice): void {
  test('the self-test finds float32', () => {
    expect(checkOperations()).toMatchObject({ matches: true })
  })

  const models = runsAllModels(device) ? [...fullModels, ...variedModels, ...familyModels, ...mixtureModels] : variedModels
  test.each(models)('gives the logits of %s', async (name) => {
    plainCalls.clear()
    const recorded = recordedLogits(await expectedOf<Recorded>(name), at(await referenceWindows('calibration'), 0))
    const before = memory().numTensors
    const model = await openModel(await referenceModel(name))
    const view = denseView(model)
    expect(recorded.length).toBeGreaterThan(0)
    for (const { ids, logits } of recorded) {
      const found = await logitsOf(view, ids)
      for (const [position, expected] of logits) {
        expect(relativeError(found[position] ?? [], expected), `position ${position}`).toBeLessThan(allowed[device] * (factors[name] ?? 1))
      }
    }
    view.dispose()
    await model.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
    expect([...plainCalls.keys()], 'operations that ggml does not compute').toEqual([])
  })
}
