import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { stock } from '#engine/export/formats/stock.ts'
import { findFormat, formats } from '#engine/export/index.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, reachedSparsity, removeParts } from '#engine/pruning/plan.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { type ReferenceModel, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../model/logits.ts'
import { recoverAll, replaceAll } from '../model/replaced.ts'

const families: ReferenceModel[] = [
  'stories260k',
  'mistral-window',
  'qwen2-tiny',
  'qwen2-tiny-tied',
  'phi3-longrope',
  'phi-tiny',
  'llama-headdim',
]

/** Keeps the even neurons of every MLP; removes attention in block 0, the MLP in block 1 and all of block 2. */
function mixedPlan(model: Model): Plan {
  const plan = removeParts(densePlan(model.spec), [0, 3, 4, 5])
  for (const [index, block] of plan.blocks.entries()) {
    const width = model.spec.blocks[index]?.width ?? 0
    if (block.mlp !== 'removed') block.mlp = { kept: Array.from({ length: width >> 1 }, (_, neuron) => 2 * neuron) }
  }
  return plan
}

describe('a plan viewed, saved and reopened', () => {
  const folder = scratchFolder('export')
  let window: Int32Array
  beforeAll(async () => {
    await openBackend('tensorflow')
    window = (await referenceWindows('test'))[0]?.subarray(0, 100) as Int32Array
  })

  const written = (names: readonly ReferenceModel[]) =>
    names.flatMap((name) =>
      Object.keys(formats)
        .filter((format) => findFormat(format).reopens && format !== 'vllm-experts')
        .map((format) => [name, format] as const),
    )

  /** How far the saved model's logits are from the view's, relative to the largest. */
  async function errorOf(name: ReferenceModel, format: string, replace: typeof replaceAll): Promise<number> {
    const model = await openModel(await referenceModel(name))
    const { plan, tensors } = await replace(model, mixedPlan(model))
    const view = viewWithPlan(model, plan, tensors)
    // GGUF files of these families are limited to the length of a sliding window.
    const own = format === 'gguf' ? window.subarray(0, 60) : window
    const expected = await logitsOf(view, own)
    const target = join(folder, `${name}-${format}-${replace.name}`)
    await findFormat(format).write({ model, plan, tensors, method: 'test', folder: target, ggufTypes: ['F32'] })
    const reopened = await openModel(target)
    const found = await logitsOf(denseView(reopened), own)
    await reopened.close()
    view.dispose()
    await model.close()
    return relativeError(found.flat(), expected.flat())
  }

  it.each(written(families))('gives equal logits for %s with replaced projections as %s', async (name, format) => {
    expect(await errorOf(name, format, replaceAll)).toBeLessThan(2e-6)
  })

  it.each([...written([...families, 'qwen3', 'olmo2', 'granite']), ['gemma2', 'stock'] as const, ['qwen3_5', 'stock'] as const])(
    'gives equal logits for %s with all tensors replaced, as a recovery leaves them, as %s',
    async (name, format) => {
      expect(await errorOf(name, format, recoverAll)).toBeLessThan(2e-6)
    },
  )

  it('leaves removed tensors out of an exact folder, and says which parameters are left', async () => {
    const model = await openModel(await referenceModel('stories260k'))
    const plan = mixedPlan(model)
    const target = join(folder, 'own')
    await exact.write({ model, plan, method: '2ssp', folder: target })
    const description = await describeModel(target)
    const dense = await describeModel(model.path)
    const removed = reachedSparsity(model.spec, plan) * dense.parameters.stack
    expect(dense.parameters.stack - description.parameters.stack).toBeCloseTo(removed, 6)
    expect(description.plan).toEqual(plan)
    await model.close()
  })

  it('drops blocks that were removed whole from the stock folder and renumbers the others', async () => {
    const model = await openModel(await referenceModel('qwen2-tiny'))
    const target = join(folder, 'stock')
    await stock.write({ model, plan: removeParts(densePlan(model.spec), [2, 3]), method: 'shortgpt', folder: target })
    const config = JSON.parse(await readFile(join(target, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config.num_hidden_layers).toBe(3)
    expect(config.max_window_layers).toBe(3)
    expect(existsSync(join(target, 'espalier.json'))).toBe(false)
    await model.close()
  })

  it('puts an attention and the MLP after it into one block if everything between them was removed', async () => {
    const model = await openModel(await referenceModel('qwen2-tiny'))
    const plan = removeParts(densePlan(model.spec), [1, 2, 3, 4])
    const view = viewWithPlan(model, plan)
    const target = join(folder, 'packed')
    await stock.write({ model, plan, method: 'blockpruner_submodule', folder: target })
    const reopened = await openModel(target)
    expect(reopened.spec.blocks).toEqual([
      { attention: true, width: 176 },
      { attention: true, width: 176 },
    ])
    const [found, expected] = [await logitsOf(denseView(reopened), window), await logitsOf(view, window)]
    expect(relativeError(found.flat(), expected.flat())).toBeLessThan(2e-6)
    await reopened.close()
    view.dispose()
    await model.close()
  })

  it('leaves zeroed parts in a stock folder, which a description recognises', async () => {
    const model = await openModel(await referenceModel('phi-tiny'))
    const target = join(folder, 'zeroed')
    // Removes the attention of block 1 and the MLP of block 2, which parallel residuals cannot put into one block. phi has biases, which
    // must be zeros too.
    await stock.write({ model, plan: removeParts(densePlan(model.spec), [2, 5]), method: 'test', folder: target })
    expect((await describeModel(target)).blocks.map(({ zeroed }) => zeroed)).toEqual([undefined, ['attention'], ['mlp'], undefined])
    expect((await describeModel(model.path)).blocks.some(({ zeroed }) => zeroed)).toBe(false)
    await model.close()
  })

  it('writes a stock folder of a model that lacks submodules already', async () => {
    const model = await openModel(await referenceModel('stories260k'))
    const target = join(folder, 'lacking')
    await exact.write({ model, plan: removeParts(densePlan(model.spec), [0, 3]), method: 'test', folder: target })
    const lacking = await openModel(target)
    const again = join(folder, 'again')
    await stock.write({ model: lacking, plan: densePlan(lacking.spec), method: 'test', folder: again })
    const reopened = await openModel(again)
    const [found, expected] = [await logitsOf(denseView(reopened), window), await logitsOf(denseView(lacking), window)]
    expect(relativeError(found.flat(), expected.flat())).toBeLessThan(2e-6)
    await reopened.close()
    await lacking.close()
    await model.close()
  })
})
