import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { TextSplit } from '#contract/data/data-request.ts'
import { defaultRecoveryData } from '#contract/pruning/recovery.ts'
import { defaultRepairData } from '#contract/pruning/repair.ts'
import { readData } from '#engine/data/read-data.ts'
import { type Documents, openSource, readTexts } from '#engine/data/source.ts'
import { splitText } from '#engine/data/split.ts'
import { cutWindows } from '#engine/data/windows.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const place = scratchFolder('split')
let project: string
beforeAll(async () => {
  project = join(place, 'project')
  await mkdir(join(project, 'src', 'inner'), { recursive: true })
  await mkdir(join(project, 'node_modules', 'other'), { recursive: true })
  await mkdir(join(project, '.git'))
  const write = (name: string, text: string) => writeFile(join(project, name), text)
  for (let i = 0; i < 20; i++) await write(join('src', i % 2 ? 'inner' : '', `file-${i}.py`), textOf(i))
  await write('node_modules/other/index.js', 'installed')
  await write('.git/HEAD', 'hidden')
  await write('package.json', '{ "name": "no text" }')
  await write('notes.md', 'notes')
  await write('picture.png', 'no text')
})

/** Some hundred words that differ from document to document. */
const textOf = (document: number) =>
  Array.from({ length: 120 }, (_, word) => `word ${(word * 37 + document * 101) % 997} of document ${document}`).join('\n')

async function partsOf(documents: string[], seed = 0): Promise<[choosing: string[], deciding: string[], byPassage: boolean]> {
  const source = {
    kind: 'documents' as const,
    documents: async function* () {
      yield* documents
    },
  }
  const read = async (part: TextSplit['part']) => splitText(source, { part, seed })
  const [choosing, deciding] = [await read('choosing'), await read('deciding')]
  expect([choosing.count, deciding.count]).toEqual([
    (await Array.fromAsync(choosing.documents())).length,
    (await Array.fromAsync(deciding.documents())).length,
  ])
  return [await Array.fromAsync(choosing.documents()), await Array.fromAsync(deciding.documents()), choosing.byPassage]
}

test('every document is in one part, a fifth decides, and only the seed and the content say which', async () => {
  const documents = Array.from({ length: 50 }, (_, i) => textOf(i))
  const [choosing, deciding, byPassage] = await partsOf(documents)
  expect(byPassage).toBe(false)
  expect([...choosing, ...deciding].sort()).toEqual([...documents].sort())
  expect([10, 11, 12]).toContain(deciding.length)
  const [, again] = await partsOf([...documents].reverse())
  expect([...again].sort()).toEqual([...deciding].sort())
  const [, other] = await partsOf(documents, 1)
  expect(other).not.toEqual(deciding)
})

test('equal documents are never on both sides, and empty ones on none', async () => {
  const documents = Array.from({ length: 40 }, (_, i) => textOf(i % 20))
  const [choosing, deciding] = await partsOf([...documents, ' \n'])
  expect(choosing.filter((document) => deciding.includes(document))).toEqual([])
  expect(choosing.length + deciding.length).toBe(40)
})

test('a text of one document, or nearly, is split by passage; two documents are split as they are', async () => {
  const long = Array.from({ length: 60 }, (_, i) => textOf(i)).join('\n\n')
  for (const documents of [[long], [long, 'a short one']]) {
    const [choosing, deciding, byPassage] = await partsOf(documents)
    expect(byPassage).toBe(true)
    const share = deciding.join('').length / long.length
    expect(share).toBeGreaterThan(0.1)
    expect(share).toBeLessThan(0.3)
    expect([...choosing, ...deciding].join('').length).toBe(documents.join('').length)
  }
  expect(await partsOf(['one text', 'another, longer text'])).toEqual([['another, longer text'], ['one text'], false])
})

test('the parts of a folder are its text and source code in all subfolders, but nothing hidden or installed', async () => {
  const source = await openSource(project, undefined, true)
  expect(source.kind).toBe('documents')
  const texts = source.kind === 'documents' ? await Array.fromAsync(source.documents()) : []
  expect(texts.length).toBe(21)
  expect(texts).toContain('notes')
  expect(texts.join()).not.toMatch(/installed|hidden|no text/)
})

test('a folder that has only source code can be read whole too', async () => {
  expect((await readTexts(join(project, 'src'))).length).toBe(20)
})

test('chats, transcripts and questions with answers are texts', async () => {
  const file = join(place, 'chats.jsonl')
  const lines = [
    {
      messages: [
        { role: 'user', content: 'Why?' },
        { role: 'assistant', content: 'Because.' },
      ],
    },
    { question: 'How many?', answer: 'Three.' },
    { instruction: 'Count.', output: 'One, two.' },
    {
      prompts: ['A', 'B'],
      answers: [
        { prompt: 1, text: 'b' },
        { prompt: 0, text: 'a' },
      ],
    },
  ]
  await writeFile(file, lines.map((line) => JSON.stringify(line)).join('\n'))
  expect(await readTexts(file)).toEqual(['Why?\n\nBecause.', 'How many?\n\nThree.', 'Count.\n\nOne, two.', 'A\n\na\n\nB\n\nb'])
})

/** What reading text needs to know of `stories260k`. */
const model = { spec: { vocabulary: 512, contextLength: 512 } } as never

test('windows of both parts share no text, for every seed of a run, and say what they are of', async () => {
  const tokenizer = await openTokenizer(await referenceModel('stories260k'))
  const read = async (part: TextSplit['part'], seed = 0) =>
    readData(model, tokenizer, { source: project, sequenceLength: 64, split: { part, seed: 0 } }, seed, {})
  const [choosing, drawn, deciding] = [await read('choosing'), await read('choosing', 3), await read('deciding')]
  expect(choosing.used).toMatchObject({ source: project, split: { part: 'choosing', seed: 0 }, documents: choosing.split?.count })
  expect(deciding.split).toMatchObject({ byPassage: false })
  expect(drawn.used.hash).not.toBe(choosing.used.hash)
  const documentsOf = ({ windows }: typeof choosing) =>
    new Set(
      windows.flatMap((window) => [...(tokenizer?.decode([...window]) ?? '').matchAll(/document (\d+)\n/g)].map(([, number]) => number)),
    )
  const decides = documentsOf(deciding)
  expect(decides.size).toBeGreaterThan(2)
  for (const own of [choosing, drawn]) expect([...documentsOf(own)].filter((number) => decides.has(number))).toEqual([])
})

test('windows that decide are spread over the whole part, the same for every seed of a run; those for choices are its first', async () => {
  const tokenizer = await openTokenizer(await referenceModel('stories260k'))
  const large = join(place, 'large')
  await mkdir(large)
  const fileOf = (file: number) => [0, 1, 2].map((part) => textOf(40 * part + file)).join('\n')
  for (let file = 0; file < 40; file++) await writeFile(join(large, `${file}.txt`), `${fileOf(file)}\n`)
  const read = async (part: TextSplit['part'], windows?: number, seed = 0) => {
    const data = { source: large, sequenceLength: 64, split: { part, seed: 0 }, ...(windows ? { windows } : {}) }
    return readData(model, tokenizer, data, seed, {})
  }
  const filesOf = (text: string) => new Set([...text.matchAll(/document (\d+)\n/g)].map(([, number]) => Number(number) % 40))
  const part = await splitText((await openSource(large, undefined, true)) as Documents, { part: 'deciding', seed: 0 })
  const text = (await Array.fromAsync(part.documents())).join('\n\n')
  const [all, some] = [await read('deciding'), await read('deciding', 16)]
  expect(all.windows).toEqual(cutWindows(tokenizer?.encode(text) ?? [], 64))
  expect(filesOf(text).size).toBeGreaterThan(5)
  expect(some.windows.length).toBe(16)
  expect(filesOf(some.windows.map((window) => tokenizer?.decode([...window])).join(''))).toEqual(filesOf(text))
  expect((await read('deciding', 16, 3)).used.hash).toBe(some.used.hash)
  expect((await read('choosing', 4)).windows).toEqual((await read('choosing', 16)).windows.slice(0, 4))
})

test('a text that is too short is refused with what is needed', async () => {
  const file = join(place, 'short.txt')
  await writeFile(file, textOf(1))
  const tokenizer = await openTokenizer(await referenceModel('stories260k'))
  const read = (part: TextSplit['part'], sequenceLength: number) =>
    readData(model, tokenizer, { source: file, sequenceLength, windows: 1, split: { part, seed: 0 } }, 0, {})
  await expect(read('deciding', 256)).rejects.toThrow(
    /short\.txt that is kept to decide has \d+ tokens \(\d passages\), but 4 windows need 1024\. Give a text of about 5,120 tokens or more, or choose shorter windows/,
  )
  await expect(read('choosing', 512)).rejects.toThrow(/choices are based on has .* 4 windows need 2048\. Give a text of about 2,560/)
})

test('repair and recovery read the same part as calibration, beside the mixed text', () => {
  const split = { part: 'choosing', seed: 4 } as const
  const own = { source: '/work', sequenceLength: 512, split }
  const parts = [defaultRepairData(own), defaultRecoveryData(own)].map(({ mix }) => mix?.map((part) => [part.source, part.split]))
  expect(parts).toEqual([
    [
      ['/work', split],
      ['mixed', undefined],
    ],
    [
      ['/work', split],
      ['mixed', undefined],
    ],
  ])
})
