import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { outlineFormats } from '#engine/export/check-save.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { relativeError } from './logits.ts'

const folder = scratchFolder('clipped')
beforeAll(() => openBackend(testedBackend))

/** The reference's OLMoE with queries, keys and values clipped at `limit`. */
async function clipped(limit: number | null): Promise<string> {
  const own = join(folder, String(limit))
  await cp(await referenceModel('olmoe'), own, { recursive: true })
  const config = JSON.parse(await readFile(join(own, 'config.json'), 'utf8')) as object
  await writeFile(join(own, 'config.json'), JSON.stringify({ ...config, clip_qkv: limit }))
  return own
}

// Perplexities of transformers 5 in float64 on the first four test windows.
test.each([
  [null, 1117.644526445982],
  [0.8, 1141.9628441601503],
  [0.3, 1073.3216564902737],
])('OLMoE with clip_qkv %s has the perplexity of transformers', async (limit, expected) => {
  const model = await openModel(await clipped(limit))
  const found = await perplexity(denseView(model), (await referenceWindows('test')).slice(0, 4))
  expect(Math.abs(found.perplexity / expected - 1)).toBeLessThan(1e-4)
  await model.close()
})

test('a token after cached ones meets clipped keys and values, and llama.cpp, which does not clip, is refused', async () => {
  const model = await openModel(await clipped(0.3))
  const [ids = new Int32Array()] = await referenceWindows('test')
  const whole = new DecodingSession(denseView(model))
  const [expected = new Float32Array()] = await whole.feed(ids.slice(0, 24), 1)
  const stepped = new DecodingSession(denseView(model))
  let last = new Float32Array()
  for (const id of ids.slice(0, 24)) [last = new Float32Array()] = (await stepped.feed(Int32Array.of(id), 1)) as [Float32Array<ArrayBuffer>]
  expect(relativeError([...last], [...expected])).toBeLessThan(1e-4)
  whole.dispose()
  stepped.dispose()
  const [gguf] = await outlineFormats({ model, plan: densePlan(model.spec) }, ['gguf'], ['F16'])
  expect(gguf?.problem).toContain('llama.cpp does not clip queries, keys and values, which this model does at 0.3')
  await model.close()
})
