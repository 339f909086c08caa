import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { expectedOf, fullModels, referenceModel, referenceWindows, variedModels } from '../../fixtures/reference.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { logitsOf, relativeError } from './logits.ts'

interface Recorded {
  readonly dense: {
    readonly ppl_test_f64?: number
    readonly ppl_test16_f64?: number
    readonly logits_at?: Record<string, number[]>
    readonly logits_short_prompt_60?: number[]
  }
  readonly generation?: { readonly dense: readonly { readonly prompt_ids: number[]; readonly last_logits_f64_own_forward: number[] }[] }
}

describe.each(['fused', 'plain'])('the decoder with %s operations against the reference', (operations) => {
  beforeAll(async () => {
    const { fused, ...plain } = await openBackend(testedBackend)
    setActiveBackend(fused && operations === 'fused' ? { ...plain, fused } : plain)
  })

  it.each([...fullModels, ...variedModels])('gives the logits and the perplexity of %s', async (name) => {
    const recorded = await expectedOf<Recorded>(name)
    const [calibration, test] = [await referenceWindows('calibration'), await referenceWindows('test')]
    const before = memory().numTensors
    const model = await openModel(await referenceModel(name))
    const view = denseView(model)
    const first = calibration[0] as Int32Array
    if (recorded.dense.logits_at) {
      const logits = await logitsOf(view, first)
      for (const [position, expected] of Object.entries(recorded.dense.logits_at)) {
        expect(relativeError(logits[Number(position)] ?? [], expected), `position ${position}`).toBeLessThan(1e-5)
      }
      const short = await logitsOf(view, first.subarray(0, 60))
      expect(relativeError(short[59] ?? [], recorded.dense.logits_short_prompt_60 ?? [])).toBeLessThan(1e-5)
    }
    for (const { prompt_ids: ids, last_logits_f64_own_forward: expected } of recorded.generation?.dense ?? []) {
      expect(relativeError((await logitsOf(view, Int32Array.from(ids))).at(-1) ?? [], expected)).toBeLessThan(1e-5)
    }
    const expected = recorded.dense.ppl_test16_f64 ?? recorded.dense.ppl_test_f64 ?? Number.NaN
    const found = await perplexity(view, recorded.dense.ppl_test16_f64 === undefined ? test : test.slice(0, 16))
    expect(Math.abs(found.perplexity / expected - 1)).toBeLessThan(1e-5)
    view.dispose()
    await model.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })
})
