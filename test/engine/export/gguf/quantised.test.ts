import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { numbersOf } from '#contract/models/models.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const home = scratchFolder('quantised')
beforeAll(async () => {
  await openBackend('tensorflow')
  const windows = await referenceWindows('calibration')
  await writeFile(join(home, 'windows.json'), JSON.stringify(windows.slice(0, 2).map((one) => [...one.subarray(0, 32)])))
})

/** The dense model as a GGUF file of this type. */
async function saved(type: string): Promise<string> {
  const model = await openModel(await referenceModel('stories260k'))
  const folder = join(home, type)
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder, ggufTypes: [type] })
  await model.close()
  return join(folder, (await readdir(folder)).find((entry) => entry.endsWith('.gguf')) as string)
}

async function measured(model: string) {
  const data = { source: join(home, 'windows.json'), sequenceLength: 32 }
  const measures = [{ kind: 'perplexity' as const, data, name: 'test' }]
  const request = { model, method: 'dense', amount: { sparsity: 0 }, options: {}, seed: 0, measures, backend: 'auto' as const }
  return executeRun(request, hostIn(home))
}

it('is shown with the types that the file stores, and its perplexity says what it was computed on', async () => {
  const file = await saved('Q8_0')
  const description = await describeModel(file)
  expect(numbersOf(description)).toMatch(/^Q8_0, .*F32, computed as float32 from unpacked weights$/)
  expect(description.bytes).toBeLessThan(2 * description.parameters.total)
  const { notes, measures } = await measured(file)
  expect(notes).toContainEqual(expect.stringMatching(/stores its weights as Q8_0, .*computed in float32 from the unpacked weights/))
  expect(measures.find(({ name }) => name === 'size')?.value).toBe((await stat(file)).size)
})

it('says nothing of the kind of a file with plain weights', async () => {
  const file = await saved('F32')
  expect(numbersOf(await describeModel(file))).toBe('F32')
  expect((await measured(file)).notes).toEqual([])
})
