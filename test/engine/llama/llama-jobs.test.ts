import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { LlamaFile } from '#engine/llama/llama-jobs.ts'
import { openLlama } from '#engine/llama/llama-library.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('llama-file')

test('a model is freed when its context is refused', async () => {
  await openBackend('auto')
  const model = await openModel(sampleModelFolder)
  const target = join(folder, 'file')
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: target, ggufTypes: ['F16'] })
  await model.close()
  const file = join(target, (await readdir(target)).find((name) => name.endsWith('.gguf')) ?? '')
  const llama = openLlama()
  const [load, free] = [vi.spyOn(llama, 'load'), vi.spyOn(llama, 'freeModel')]
  // llama.cpp returns no context if its memory cannot be allocated.
  const start = vi.spyOn(llama, 'start').mockReturnValue(null)
  const open = () => new LlamaFile(file, { context: 64, threads: 1, device: 'CPU' })
  expect(open).toThrow('has no room for 64 tokens of context')
  expect(free.mock.calls).toEqual([[load.mock.results[0]?.value]])
  start.mockRestore()
  const opened = open()
  expect(opened.vocabularySize).toBeGreaterThan(1)
  opened.close()
  expect(free).toHaveBeenCalledTimes(2)
})
