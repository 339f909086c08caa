import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { blockParameters, normParameters } from '#engine/architectures/count-parameters.ts'
import type { NormTensors } from '#engine/architectures/spec.ts'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { expectedOf, type FamilyModel, familyModels, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { greedily, logitsOf, relativeError } from './logits.ts'

interface Recorded {
  readonly dense: { readonly ppl_test_f64: number; readonly logits_at: Record<string, number[]> }
  readonly params?: { readonly mixer_per_block: readonly number[]; readonly mlp_per_block: number }
  readonly greedy: { readonly prompt: number[]; readonly ids: number[] }
}

describe.each(['fused', 'plain'])('families of today with %s operations against transformers', (operations) => {
  beforeAll(async () => {
    const { fused, ...plain } = await openBackend(testedBackend)
    setActiveBackend(fused && operations === 'fused' ? { ...plain, fused } : plain)
  })

  // Recorded with one spelling; how a config is spelled does not depend on the operations.
  const once: readonly FamilyModel[] = ['qwen3-tied', 'qwen3_5']
  const spellings = (name: FamilyModel) =>
    once.includes(name) || operations === 'plain' ? ['config.json'] : ['config.json', 'config-hub.json']
  const spelled = familyModels.flatMap((name) => spellings(name).map((config) => ({ name, config })))
  it.each(spelled)('gives the logits, the perplexity and the greedy answer of $name by $config', async ({ name, config }) => {
    const recorded = await expectedOf<Recorded>(name)
    const [calibration, test] = [await referenceWindows('calibration'), await referenceWindows('test')]
    const before = memory().numTensors
    const model = await openModel(await referenceModel(name, config))
    const view = denseView(model)
    const logits = await logitsOf(view, calibration[0] as Int32Array)
    // As in `every-device/families.ts`: DeltaNets in float32 deviate more, and with ggml on a Xeon with AMX by 1.1e-5.
    const allowed = name === 'qwen3_5' && testedBackend !== 'tensorflow' ? 2e-5 : 1e-5
    for (const [position, expected] of Object.entries(recorded.dense.logits_at)) {
      expect(relativeError(logits[Number(position)] ?? [], expected), `position ${position}`).toBeLessThan(allowed)
    }
    // For other spellings the logits are enough.
    if (config === 'config.json') {
      const { perplexity: found } = await perplexity(view, test.slice(0, 16))
      expect(Math.abs(found / recorded.dense.ppl_test_f64 - 1)).toBeLessThan(1e-5)
      expect(await greedily(model, recorded.greedy.prompt, recorded.greedy.ids.length)).toEqual(recorded.greedy.ids)
    }
    if (recorded.params) {
      // Recorded without the norms after submodules, which are removed with them here.
      const { spec } = model
      const counted = spec.blocks.map((_, block) => ({ ...blockParameters(spec, block), tensors: spec.block(block) }))
      const ownOf = (parameters: number, norm: NormTensors | undefined) => parameters - normParameters(spec, norm)
      expect(counted.map(({ attention, tensors }) => ownOf(attention, tensors.attentionOutputNorm))).toEqual(
        recorded.params.mixer_per_block,
      )
      expect(counted.map(({ mlp, tensors }) => ownOf(mlp, tensors.mlpOutputNorm))).toEqual(
        counted.map(() => recorded.params?.mlp_per_block),
      )
    }
    view.dispose()
    await model.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })
})
