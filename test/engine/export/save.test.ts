import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { outlineFormats } from '#engine/export/check-save.ts'
import { type SaveRequest, saveModel } from '#engine/export/save.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

const sample = join(import.meta.dirname, '..', '..', '..', 'resources', 'sample-model')
const quiet = { progress: () => undefined }
const folder = scratchFolder('save')
let model: Model
let text: string
beforeAll(async () => {
  await openBackend(testedBackend)
  model = await openModel(sample)
  text = await readFile(join(sample, 'test.txt'), 'utf8')
})
afterAll(() => model.close())

function requestFor(name: string, more: Partial<SaveRequest> = {}): SaveRequest {
  const plan = removeParts(densePlan(model.spec), [2, 7, 9, 10])
  return { model, plan, method: 'test', folder: join(folder, name), formats: ['stock', 'gguf'], ggufTypes: ['F32', 'Q4_0'], text, ...more }
}

describe('saving', () => {
  it('writes several formats and types at once, opens each again and says how far its answers are from the pruned model', async () => {
    const reported: [string, number, number][] = []
    const saved = await saveModel(requestFor('several'), { progress: (phase, done, total) => reported.push([phase, done, total]) })
    expect(saved.map(({ format, type }) => [format, type])).toEqual([
      ['stock', null],
      ['gguf', 'F32'],
      ['gguf', 'Q4_0'],
    ])
    for (const { path, bytes, reload, type } of saved) {
      expect(existsSync(path)).toBe(true)
      expect(bytes).toBeGreaterThan(1e6)
      expect(reload?.perplexity).toBeGreaterThan(1)
      const difference = Math.abs((reload?.perplexity ?? 0) / (reload?.expected ?? 1) - 1)
      expect(difference).toBeLessThan(type === 'Q4_0' ? 0.5 : 1e-6)
      if (type !== 'Q4_0') expect(reload?.equalTokens).toBe(reload?.greedyTokens)
    }
    expect(reported.some(([phase, done, total]) => phase === 'Saving' && done > 0 && done < total)).toBe(true)
    expect(reported.at(-1)).toEqual(['Opening what was saved', 3, 3])
    expect((await readdir(join(folder, 'several', 'gguf'))).sort()).toEqual([
      'Modelfile-F32',
      'Modelfile-Q4_0',
      'README.md',
      'sample-model-test-F32.gguf',
      'sample-model-test-Q4_0.gguf',
    ])
  })

  it('opens what it saved under the memory budget of the model', async () => {
    const request = requestFor('small', { formats: ['exact'] })
    await expect(saveModel({ ...request, model: { ...model, freeBytes: 1000 } }, quiet)).rejects.toThrow('memory budget')
  })

  it('weighs what the outline said, within the header and the tokenizer', async () => {
    const request = requestFor('weighed', { ggufTypes: ['BF16'] })
    const outlined = await outlineFormats(request, ['stock', 'gguf'], ['BF16'])
    const saved = await saveModel(request, quiet)
    for (const [index, { bytes }] of saved.entries()) {
      const expected = outlined[index]?.bytes ?? 0
      expect(bytes - expected).toBeGreaterThanOrEqual(0)
      expect(bytes - expected).toBeLessThan(index === 0 ? 250_000 : 40_000)
    }
  })

  it('leaves nothing behind when it is stopped in the middle', async () => {
    const controller = new AbortController()
    const saving = saveModel(requestFor('stopped'), { signal: controller.signal, progress: () => controller.abort() })
    await expect(saving).rejects.toThrow(/abort/i)
    expect(await readdir(folder)).not.toContain('stopped')
    expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('refuses a format that cannot hold the model before it writes any other', async () => {
    const hybrid = await openModel(await referenceModel('gemma2'))
    const request = { ...requestFor('refused'), model: hybrid, plan: densePlan(hybrid.spec) }
    await expect(saveModel(request, quiet)).rejects.toThrow(/multiplies scores by .* Choose stock or exact/)
    expect(await readdir(folder)).not.toContain('refused')
    const outlines = await outlineFormats(request, ['stock', 'gguf'], ['F16'])
    expect(outlines.map(({ problem }) => problem === null)).toEqual([true, false])
    await hybrid.close()
  })

  it('keeps what is already there unless asked to replace it', async () => {
    await mkdir(join(folder, 'taken'), { recursive: true })
    const request = requestFor('taken', { formats: ['stock'] })
    await saveModel(request, quiet)
    await expect(saveModel(request, quiet)).rejects.toThrow('exists and is not empty')
    await saveModel({ ...request, replace: true }, quiet)
    expect(existsSync(join(folder, 'taken', 'config.json'))).toBe(true)
  })
})
