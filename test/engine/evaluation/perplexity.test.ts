import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import type { DataRequest } from '#contract/data/data-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readData } from '#engine/data/read-data.ts'
import { measureView } from '#engine/evaluation/measure.ts'
import { bitsPerByte, perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { resources } from '#runtime/resources.ts'

await openBackend('auto')
const path = join(resources, 'sample-model')
const model = await openModel(path)
const view = denseView(model)
const tokenizer = await openTokenizer(path)
const text = 'The lighthouse keeper counted the boats again – naïvely – while the fog came in from the west. '.repeat(30)
const ids = tokenizer.encode(text)

afterAll(() => model.close())

it('gives the loss of each window in the order of the windows, whatever their lengths', async () => {
  const windows = [64, 16, 64, 32].map((length, at) => Int32Array.from(ids.slice(70 * at, 70 * at + length)))
  const { losses, perplexity: whole } = await perplexity(view, windows)
  for (const [at, window] of windows.entries()) {
    const alone = await perplexity(view, [window])
    expect(losses[at]).toBeCloseTo(Math.log(alone.perplexity), 5)
  }
  const sum = losses.reduce((all, loss, at) => all + loss * ((windows[at]?.length ?? 0) - 1), 0)
  expect(Math.exp(sum / (63 + 15 + 63 + 31))).toBeCloseTo(whole, 9)
})

it('counts bits per byte of the text that is predicted, with the error of a ratio over windows', () => {
  const windows = [Int32Array.of(1, 5, 6), Int32Array.of(7, 8, 9)]
  // The first tokens predict but are not predicted; 9 is a special token.
  const bytesOf = (id: number) => (id === 9 ? 0 : id)
  const found = bitsPerByte(windows, [Math.LN2, 3 * Math.LN2], bytesOf)
  // Windows have 2 and 6 bits, and 11 and 8 bytes.
  expect(found?.bytes).toBe(19)
  expect(found?.value).toBeCloseTo(8 / 19, 12)
  const squares = (2 - (8 / 19) * 11) ** 2 + (6 - (8 / 19) * 8) ** 2
  expect(found?.error).toBeCloseTo(Math.sqrt(2 * squares) / 19, 12)
  expect(bitsPerByte([Int32Array.of(1, 9)], [1], bytesOf)).toBeUndefined()
})

it('a perplexity says what it was taken on, with its losses and bits per byte', async () => {
  const asked: DataRequest = { source: join(resources, 'sample-model/test.txt'), sequenceLength: 64, windows: 8 }
  const context = {
    view: async () => view,
    spec: model.spec,
    tokenizer,
    signal: new AbortController().signal,
    progress: () => undefined,
    step: <T>(_: unknown, compute: () => Promise<T>) => compute(),
    read: (data: DataRequest) => readData(model, tokenizer, data, 0, {}),
  }
  const measured = async (data: DataRequest) =>
    (await measureView({ kind: 'perplexity', data, name: 'own' }, { ...context, step: (_, compute) => compute() })).measures
  const [own, bits] = await measured(asked)
  const { windows, used } = await context.read(asked)
  expect(own).toMatchObject({ name: 'perplexity', on: { hash: used.hash, count: 8, sequenceLength: 64 } })
  expect(own?.losses).toHaveLength(8)
  const bytes = Buffer.byteLength(windows.map((window) => tokenizer.decode([...window.subarray(1)], { cleanUp: false })).join(''))
  expect(bits).toMatchObject({ name: 'bits per byte', dataset: 'own', on: { hash: used.hash, bytes } })
  expect(bits?.value).toBeCloseTo((Math.log(own?.value ?? 0) * 8 * 63) / Math.LN2 / bytes, 9)
  // The text is the same, whatever the windows.
  const [other] = await measured({ ...asked, sequenceLength: 128 })
  expect(other?.on?.text).toBe(own?.on?.text)
  expect(other?.on?.hash).not.toBe(own?.on?.hash)
  const answers = await measureView(
    { kind: 'repetition', data: asked, name: 'own', tokens: 24 },
    { ...context, step: (_, compute) => compute() },
  )
  const [loops] = answers.measures
  expect(loops?.hits).toMatch(/^[01]{8}$/)
  expect(loops?.value).toBe(((loops?.hits?.split('1').length ?? 0) - 1) / 8)
  expect(loops?.on?.hash).not.toBe(used.hash)
})
