import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { findFormat } from '#engine/export/index.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { shortgpt } from '#engine/pruning/methods/shortgpt.ts'
import { findRotations, slicegpt } from '#engine/pruning/methods/slicegpt.ts'
import { densePlan, reachedSparsity, removedParameters } from '#engine/pruning/plan.ts'
import { expectedOf, fullModels } from '../../../fixtures/reference.ts'
import { scratchOfTest } from '../../../fixtures/scratch.ts'
import { type Bench, openReference, prune, recordedRun, relativeError } from '../running.ts'

interface Recorded {
  readonly sparsity: number
  readonly new_embedding_dimension: number
  readonly params_after: { readonly blocks: number }
  readonly ppl_test_f64: number
  readonly ppl_after_fusion_before_slicing: number
  readonly prompt_last_logits: number[]
}

interface Expected {
  /** A sentence for phi, which the reference does not support. */
  readonly slicegpt: Recorded[] | string
  readonly generation: { readonly dense: { readonly prompt_ids: number[] }[] }
}

/** The models that the reference could slice: it does not support phi. */
const slicedModels = fullModels.filter((name) => name !== 'phi-tiny')

async function recordedSlices(name: (typeof fullModels)[number]): Promise<Recorded[]> {
  const { slicegpt: recorded } = await expectedOf<Expected>(name)
  if (Array.isArray(recorded)) return recorded
  throw new Error(`Nothing is recorded of SliceGPT on ${name}: ${recorded}`)
}

/** Perplexity with all coordinates kept: only rotations, fusions and the norm's epsilon are left. */
async function uncutPerplexity({ model, calibration, test: windows }: Bench, epsilon: number, centre: boolean): Promise<number> {
  const width = model.spec.hidden
  const tensors = await findRotations(denseView(model), calibration.slice(0, 4), { width, epsilon, centre }, recordedRun())
  const view = viewWithPlan(model, { ...densePlan(model.spec), slice: { width, epsilon } }, tensors)
  try {
    return (await perplexity(view, windows)).perplexity
  } finally {
    view.dispose()
  }
}

describe.each(slicedModels)('%s', (name) => {
  const open = openReference(name)

  test('is as good, as wide and as large as the reference made it', async () => {
    const { generation } = await expectedOf<Expected>(name)
    for (const recorded of await recordedSlices(name)) {
      const { model, test: windows } = open()
      const { plan, tensors } = await prune(slicegpt, open(), { sparsity: recorded.sparsity })
      expect(plan.slice?.width).toBe(recorded.new_embedding_dimension)
      expect(stackParameters(model.spec) - removedParameters(model.spec, plan)).toBe(recorded.params_after.blocks)
      const view = viewWithPlan(model, plan, tensors)
      expect(relativeError((await perplexity(view, windows)).perplexity, recorded.ppl_test_f64)).toBeLessThan(1e-4)
      const session = new DecodingSession(view)
      const prompt = Int32Array.from(generation.dense[0]?.prompt_ids ?? [])
      const [logits] = await session.feed(prompt, 1)
      session.dispose()
      view.dispose()
      const worst = Math.max(...recorded.prompt_last_logits.map((logit, id) => Math.abs(logit - (logits?.[id] ?? 0))))
      expect(worst).toBeLessThan(1e-3)
    }
  })

  test("without a cut it is as good as the reference's, which takes the mean off embeddings", async () => {
    const [recorded] = await recordedSlices(name)
    const expected = recorded?.ppl_after_fusion_before_slicing ?? Number.NaN
    expect(relativeError(await uncutPerplexity(open(), 1e-5, true), expected)).toBeLessThan(1e-4)
  })
})

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)

  test('without a cut, and with the mean kept if the family has it, it equals the dense model', async () => {
    const { model, test: windows } = open()
    // Nothing is recorded of this, so a few windows are enough.
    const few = { ...open(), test: windows.slice(0, 8) }
    const dense = (await perplexity(denseView(model), few.test)).perplexity
    const centre = model.spec.norm.kind === 'layer'
    expect(relativeError(await uncutPerplexity(few, model.spec.norm.epsilon, centre), dense)).toBeLessThan(1e-5)
  })

  test('saved and reopened, it answers the same and refuses to be pruned again', async () => {
    const { model, calibration, test: windows } = open()
    const { plan, tensors } = await prune(slicegpt, { ...open(), calibration: calibration.slice(0, 2) }, { sparsity: 0.25 })
    const view = viewWithPlan(model, plan, tensors)
    const before = (await perplexity(view, windows.slice(0, 4))).perplexity
    view.dispose()
    const folder = scratchOfTest('sliced')
    const request = { model, plan, method: 'slicegpt', folder: join(folder, 'model'), ...(tensors ? { tensors } : {}) }
    await findFormat('exact').write(request)
    const reopened = await openModel(request.folder)
    expect(relativeError((await perplexity(denseView(reopened), windows.slice(0, 4))).perplexity, before)).toBeLessThan(1e-6)
    await expect(prune(slicegpt, { ...open(), model: reopened }, { sparsity: 0.25 })).rejects.toThrow('cannot be pruned further')
    await expect(prune(shortgpt, { ...open(), model: reopened }, { blocks: 1 })).rejects.toThrow('cannot be pruned further')
    await reopened.close()
    await expect(findFormat('stock').write(request)).rejects.toThrow('Choose the format exact')
  })

  test('solves the width for a reached sparsity, frees its tensors, and refuses what leaves nothing', async () => {
    const { model, calibration } = open()
    const small = { ...open(), calibration: calibration.slice(0, 2) }
    await prune(slicegpt, small, { sparsity: 0.25 })
    const tensors = memory().numTensors
    const nominal = await prune(slicegpt, small, { sparsity: 0.25 })
    const solved = await prune(slicegpt, small, { sparsity: 0.25 }, { target: 'reached', widthMultiple: 1 })
    const missBy = (reached: number) => Math.abs(reached - 0.25)
    expect(missBy(reachedSparsity(model.spec, solved.plan))).toBeLessThan(0.02)
    expect(missBy(reachedSparsity(model.spec, nominal.plan))).toBeGreaterThan(0.02)
    expect(memory().numTensors).toBe(tensors)
    await expect(prune(slicegpt, small, { sparsity: 0.95 })).rejects.toThrow('Choose at most')
    expect(() => viewWithPlan(model, solved.plan)).toThrow('rotation.embedding')
  })
})
