import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { readData } from '#engine/data/read-data.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { hashOf } from '../../fixtures/hash-of.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('run-data')
let model: Model
beforeAll(async () => {
  await openBackend('auto')
  model = await openModel(await referenceModel('stories260k'))
})
afterAll(() => model.close())

async function write(name: string, content: unknown): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, JSON.stringify(content))
  return path
}

const read = (source: string, windows: number, seed: number) => readData(model, undefined, { source, sequenceLength: 8, windows }, seed, {})

test('the windows used are recorded, with the hash of their ids', async () => {
  const source = await write(
    'run.json',
    Array.from({ length: 50 }, (_, i) => i),
  )
  const { windows, used, notes } = await read(source, 3, 0)
  expect(used).toEqual({ source, revision: null, sequenceLength: 8, windows: 3, seed: 0, hash: hashOf(windows) })
  expect(notes).toEqual([])
  const drawn = await read(source, 3, 1)
  expect(drawn.used).toMatchObject({ windows: 3, seed: 1, hash: hashOf(drawn.windows) })
  expect(drawn.used.hash).not.toBe(used.hash)
})

test('a text that is too short says so, and that a seed then changes little', async () => {
  const source = await write(
    'short.json',
    Array.from({ length: 35 }, (_, i) => i),
  )
  const inOrder = await read(source, 32, 0)
  expect(inOrder.used.windows).toBe(4)
  expect(inOrder.notes).toEqual([`${source} gives 4 windows of 8 tokens, but 32 were requested; all 4 are used.`])
  const ten = await write(
    'ten.json',
    Array.from({ length: 10 }, (_, i) => i),
  )
  expect((await read(ten, 2, 0)).notes).toEqual([`${ten} gives 1 window of 8 tokens, but 2 were requested; it is used.`])
  expect((await read(source, 32, 1)).notes[0]).toContain('The seed only changes their first token')
})

test('an error about a bundled text names the text, not its file', async () => {
  await expect(read('prose', 1, 0)).rejects.toThrow(/^"Prose" is text, but the model has no tokenizer\./)
})

test("windows of ids keep their own lengths in the run's record", async () => {
  const source = await write('windows.json', [
    [1, 2, 3],
    [4, 5, 6, 7, 8],
  ])
  const { used, windows } = await read(source, 9, 0)
  expect(used).toMatchObject({ sequenceLength: 5, windows: 2, hash: hashOf(windows) })
})

test('ids beyond the vocabulary are refused with the file and the largest id allowed', async () => {
  await expect(read(await write('beyond.json', [[1, 100_000]]), 1, 0)).rejects.toThrow(/beyond\.json holds token id 100000; .* ends at 511/)
})

test('skipped windows are replaced by later ones of the same source, and a source without any is left out', async () => {
  const ids = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + (i % 90))
  const [one, other] = [await write('one.json', ids(100, 80)), await write('other.json', ids(200, 80))]
  const take = (choose: (window: Int32Array) => boolean) =>
    readData(
      model,
      undefined,
      { source: 'both', sequenceLength: 8, windows: 4, mix: [one, other].map((source) => ({ source, share: 1 })) },
      0,
      { choose: (windows) => windows.filter(choose) },
    )
  const late = await take(([first = 0]) => first % 100 >= 32)
  expect(late.windows.map(([first]) => first)).toEqual([132, 232, 140, 240])
  const half = await take(([first = 0]) => first >= 200)
  expect(half.windows.map(([first]) => first)).toEqual([200, 208])
  expect(half.used.parts?.map(({ source }) => source)).toEqual([other])
})

test("kinds are only chosen in bundled text: a user's own documents are all read, whatever their field kind says", async () => {
  const kinds = ['lists', 'technical', 'definitions', 'prose']
  const source = join(folder, 'own.jsonl')
  await writeFile(source, kinds.map((kind) => JSON.stringify({ kind, text: `A document of ${kind}. `.repeat(20) })).join('\n'))
  const tokenizer = await openTokenizer(join(import.meta.dirname, '../../../resources/sample-model'))
  const wide = { spec: { ...model.spec, vocabulary: 1_000_000 } }
  const all = async (from: string, only: object) =>
    (await readData(wide, tokenizer, { source: from, sequenceLength: 16 }, 0, only)).windows.length
  const accepts = (kind: string) => kind === 'prose'
  expect(await all(source, { accepts })).toBe(await all(source, {}))
  expect(await all('mixed', { accepts: (kind: string) => kind !== 'lists' })).toBeLessThan(await all('mixed', {}))
})
