import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { activeParameters, blockParameters } from '#engine/architectures/parameters.ts'
import { type MixtureTensors, mlpProjections } from '#engine/architectures/spec.ts'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { runWindows } from '#engine/model/forward.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { mlpOf } from '#engine/model/weights/weights.ts'
import { expectedOf, mixtureModels, packedMixture, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { greedily } from './greedily.ts'
import { logitsOf } from './logits.ts'

interface Recorded {
  readonly dense: { readonly ppl_test_f64: number; readonly logits_at: Record<string, number[]> }
  readonly params: {
    readonly mixer_per_block: readonly number[]
    readonly expert: number
    readonly router: number
    readonly shared: number
    readonly total: number
    readonly active: number
  }
  readonly greedy: { readonly prompt: number[]; readonly ids: number[] }
  readonly router: { readonly block: number; readonly positions: number[]; readonly top_k: number[][]; readonly weights: number[][] }
}

/** By row, the experts that it met and their factors, the largest factor first. */
function choicesOf(experts: readonly { expert: number; rows: Int32Array; gates: Float32Array }[], row: number): [number, number][] {
  const found = experts.flatMap(({ expert, rows, gates }): [number, number][] => {
    const at = rows.indexOf(row)
    return at < 0 ? [] : [[expert, gates[at] as number]]
  })
  return found.sort(([, one], [, other]) => other - one)
}

describe('mixtures of experts against transformers', () => {
  beforeAll(async () => setActiveBackend(await openBackend(testedBackend)))

  const spelled = mixtureModels.flatMap((name) => ['config.json', 'config-hub.json'].map((config) => ({ name, config })))
  it.each(spelled)('give the logits, perplexity, choices, counts and greedy answer of $name by $config', async ({ name, config }) => {
    const recorded = await expectedOf<Recorded>(name)
    const [calibration, test] = [await referenceWindows('calibration'), await referenceWindows('test')]
    const before = memory().numTensors
    const model = await openModel(await referenceModel(name, config))
    const view = denseView(model)
    const logits = await logitsOf(view, calibration[0] as Int32Array)
    for (const [position, expected] of Object.entries(recorded.dense.logits_at)) {
      const own = logits[Number(position)] ?? []
      const most = expected.reduce((max, value, i) => Math.max(max, Math.abs(value - (own[i] ?? Number.NaN))), 0)
      expect(most, `position ${position}`).toBeLessThan(name === 'qwen3_5_moe' ? 3e-4 : 1e-4)
    }
    // Another spelling shows in the logits already.
    if (config === 'config.json') {
      const { perplexity: found } = await perplexity(view, test.slice(0, 16))
      expect(Math.abs(found / recorded.dense.ppl_test_f64 - 1)).toBeLessThan(1e-5)
      expect(await greedily(model, recorded.greedy.prompt, recorded.greedy.ids.length)).toEqual(recorded.greedy.ids)
    }
    const { block, positions, top_k: numbers, weights } = recorded.router
    await runWindows(view, calibration.slice(0, 1), {
      observe(_group, part, { experts }) {
        if (part !== mlpOf(block)) return
        for (const [index, position] of positions.entries()) {
          const own = choicesOf(experts ?? [], position)
          const sorted = [...(weights[index] ?? [])].sort((a, b) => b - a)
          expect(new Set(own.map(([expert]) => expert))).toEqual(new Set(numbers[index]))
          for (const [at, [, gate]] of own.entries()) expect(gate).toBeCloseTo(sorted[at] as number, 5)
        }
      },
    })
    const { spec } = model
    const mixture = spec.block(spec.blocks.length - 1).mixture as MixtureTensors
    const expert = Object.values(mlpProjections(mixture.experts[0] as never)).reduce(
      (sum, { rows, columns, bias }) => sum + rows * columns + (bias ? rows : 0),
      0,
    )
    expect(expert).toBe(recorded.params.expert)
    expect(spec.blocks.map((_, index) => blockParameters(spec, index).attention)).toEqual(recorded.params.mixer_per_block)
    const { total, active } = activeParameters(spec)
    expect(total + Vocabulary.parameters(spec)).toBe(recorded.params.total)
    expect(active + Vocabulary.parameters(spec)).toBe(recorded.params.active)
    view.dispose()
    await model.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })

  it('give the same for gpt-oss in blocks of MXFP4, whose values its plain file has', async () => {
    const [window] = await referenceWindows('calibration')
    const logits = async (name: 'gpt_oss' | typeof packedMixture) => {
      const model = await openModel(await referenceModel(name))
      const { quantised } = model.checkpoint
      const found = await logitsOf(denseView(model), (window as Int32Array).subarray(0, 40))
      await model.close()
      return { found, types: quantised?.types }
    }
    const packed = await logits(packedMixture)
    expect(packed.types).toEqual(['MXFP4'])
    expect(packed.found).toEqual((await logits('gpt_oss')).found)
  })
})
