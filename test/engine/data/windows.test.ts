import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { cutWindows, readWindows } from '#engine/data/windows.ts'
import { openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const fixtures = join(import.meta.dirname, '../../fixtures')
const excerpt = join(fixtures, 'texts/wikitext-2-test.txt')
const place = scratchFolder('windows')
let tokenizer: Tokenizer
beforeAll(async () => {
  tokenizer = await openTokenizer(join(fixtures, 'stories260k'))
})

async function write(name: string, content: unknown): Promise<string> {
  const file = join(place, name)
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content))
  return file
}

const asLines = (texts: string[]) => texts.map((text) => JSON.stringify({ text })).join('\n')
const numbered = Array.from({ length: 30 }, (_, i) => `Document ${i} is a text.`)
const flatten = (windows: readonly Int32Array[]) => windows.flatMap((window) => [...window])

/** The indices below `count` in the order of CPython's shuffle. */
const drawn = JSON.parse(await readFile(join(fixtures, 'python-random.json'), 'utf8')) as { seed: number; shuffles: [number, number[]][] }[]
function shuffled(seed: number, count: number): number[] {
  const [, order] = drawn.find((recorded) => recorded.seed === seed)?.shuffles.find(([items]) => items === count) ?? []
  if (!order) throw new Error(`No shuffle of ${count} was recorded for seed ${seed}.`)
  return order
}

describe('cutWindows', () => {
  it('cuts consecutive windows from token 0 and drops the tail', () => {
    expect(cutWindows([1, 2, 3, 4, 5], 2)).toEqual([Int32Array.of(1, 2), Int32Array.of(3, 4)])
    expect(cutWindows(Int32Array.of(1, 2, 3, 4), 2, 1)).toEqual([Int32Array.of(1, 2)])
    expect(cutWindows([1], 2)).toEqual([])
  })

  it('refuses a window that has nothing to predict', () => {
    for (const length of [1, 0, -2, 2.5, Number.NaN])
      expect(() => cutWindows([1, 2, 3], length)).toThrow(/Choose a whole number of at least 2/)
  })
})

describe('windows that begin with a token', () => {
  it('have it in front of one id less of their own', () => {
    expect(cutWindows([1, 2, 3, 4, 5], 3, undefined, 9)).toEqual([Int32Array.of(9, 1, 2), Int32Array.of(9, 3, 4)])
    expect(cutWindows([1, 2, 3], 2, 2, 9)).toEqual([Int32Array.of(9, 1), Int32Array.of(9, 2)])
  })

  it('have the tokens of the text in order and each once', async () => {
    const file = join(fixtures, 'texts/wikitext-2-test.txt')
    const plain = await readWindows(file, tokenizer, { sequenceLength: 256, maxWindows: 4 })
    const begun = await readWindows(file, tokenizer, { sequenceLength: 256, maxWindows: 4, begin: 1 })
    expect(begun.windows.map(({ length }) => length)).toEqual([256, 256, 256, 256])
    expect(begun.windows.map((window) => window[0])).toEqual([1, 1, 1, 1])
    const own = begun.windows.flatMap((window) => [...window.subarray(1)])
    expect(own).toEqual(flatten(plain.windows).slice(0, 4 * 255))
  })

  it('come from a sequence of ids in a drawn order too, and ready windows stay as they are', async () => {
    const ids = await write(
      'begun-ids.json',
      Array.from({ length: 40 }, (_, i) => i + 10),
    )
    const { windows } = await readWindows(ids, undefined, { sequenceLength: 8, seed: 3, begin: 1 })
    expect(windows).toHaveLength(5)
    for (const window of windows) expect([...window.subarray(1)]).toEqual(Array.from({ length: 7 }, (_, i) => (window[1] as number) + i))
    const ready = await write('ready.json', [
      [5, 6, 7],
      [8, 9, 10],
    ])
    expect((await readWindows(ready, undefined, { sequenceLength: 3, begin: 1 })).windows).toEqual([
      Int32Array.of(5, 6, 7),
      Int32Array.of(8, 9, 10),
    ])
  })

  it('need one token less of a text, and an error says how many fit', async () => {
    const ids = await write('short.json', [10, 11, 12])
    expect((await readWindows(ids, undefined, { sequenceLength: 4, begin: 1 })).windows).toEqual([Int32Array.of(1, 10, 11, 12)])
    await expect(readWindows(ids, undefined, { sequenceLength: 5, begin: 1 })).rejects.toThrow(/one window needs 4.*at most 4\./)
  })
})

describe('the windows of a text', () => {
  it('are those of the reference', async () => {
    for (const name of ['test', 'valid']) {
      const expected = JSON.parse(await readFile(join(fixtures, `texts/wikitext-2-${name}.windows.json`), 'utf8')) as number[][]
      const { windows } = await readWindows(join(fixtures, `texts/wikitext-2-${name}.txt`), tokenizer, {
        sequenceLength: 256,
        maxWindows: 16,
      })
      expect(windows.map((window) => [...window])).toEqual(expected)
    }
  })

  it('are the same however early reading may stop', async () => {
    const text = await readFile(excerpt, 'utf8')
    const documents = Array.from({ length: 40 }, (_, i) => text.slice(i * 100, i * 100 + 4000))
    const file = await write('many.jsonl', asLines(documents))
    const all = await readWindows(file, tokenizer, { sequenceLength: 64 })
    expect(flatten(all.windows)).toEqual(tokenizer.encode(documents.join('\n\n')).slice(0, all.windows.length * 64))
    for (const maxWindows of [1, 2, 300, 500, all.windows.length, all.windows.length + 9]) {
      const some = await readWindows(file, tokenizer, { sequenceLength: 64, maxWindows })
      expect(flatten(some.windows)).toEqual(flatten(all.windows.slice(0, maxWindows)))
    }
    expect((await readWindows(file, tokenizer, { sequenceLength: 64, maxWindows: 2 })).tokens).toBeLessThan(all.tokens / 2)
  })

  it('are the same with a tokenizer that cannot be cut', async () => {
    const whole: Tokenizer = { ...tokenizer, split: (text) => [text] }
    const text = await readFile(excerpt, 'utf8')
    const file = await write('whole.jsonl', asLines(Array(30).fill(text) as string[]))
    const options = { sequenceLength: 256, maxWindows: 300 }
    expect(await readWindows(file, whole, options)).toMatchObject({ windows: (await readWindows(file, tokenizer, options)).windows })
  })

  it('join documents by two newlines', async () => {
    const file = await write('two.json', ['One day', 'a cat'])
    const { windows } = await readWindows(file, tokenizer, { sequenceLength: 4 })
    expect(flatten(windows)).toEqual(tokenizer.encode('One day\n\na cat').slice(0, windows.length * 4))
  })

  it('take the first documents in their own order for seed 0', async () => {
    const file = await write('thirty.json', numbered)
    const { windows } = await readWindows(file, tokenizer, { sequenceLength: 8, maxDocuments: 20, seed: 0 })
    const whole = tokenizer.encode(numbered.slice(0, 20).join('\n\n'))
    expect(flatten(windows)).toEqual(whole.slice(0, windows.length * 8))
  })

  it.each([1, 42])('take the documents in the order of CPython for seed %i, whatever is held in memory', async (seed) => {
    const file = await write('thirty.json', numbered)
    const order = shuffled(seed, 20).map((index) => numbered[index] as string)
    const { windows, documents } = await readWindows(file, tokenizer, { sequenceLength: 8, maxDocuments: 20, seed })
    expect(flatten(windows)).toEqual(tokenizer.encode(order.join('\n\n')).slice(0, windows.length * 8))
    expect(documents).toBe(20)
    const some = await readWindows(file, tokenizer, { sequenceLength: 8, maxDocuments: 20, maxWindows: 3, seed })
    expect(some.windows).toEqual(windows.slice(0, 3))
  })

  it('are cut from one long text at drawn offsets, as many as fit and none twice', async () => {
    const text = await readFile(excerpt, 'utf8')
    const ids = tokenizer.encode(text)
    const file = await write('long.txt', text)
    const run = await write('long.json', [...ids.keys()])
    for (const seed of [1, 2, 3, 4]) {
      const { windows } = await readWindows(run, undefined, { sequenceLength: 64, seed })
      expect(windows).toHaveLength(Math.floor(ids.length / 64))
      const starts = windows.map((window) => window[0] as number)
      expect(windows).toEqual(starts.map((start) => Int32Array.from({ length: 64 }, (_, i) => start + i)))
      expect(starts.toSorted((a, b) => a - b).every((start, i, sorted) => i === 0 || start === (sorted[i - 1] ?? 0) + 64)).toBe(true)
      expect(starts).not.toEqual(starts.toSorted((a, b) => a - b))
      const few = await readWindows(file, tokenizer, { sequenceLength: 64, seed, maxWindows: 5 })
      expect(few.windows).toEqual(windows.slice(0, 5).map((window) => window.map((position) => ids[position] as number)))
    }
    const firsts = [1, 2, 3, 4].map(async (seed) => (await readWindows(run, undefined, { sequenceLength: 64, seed })).windows[0]?.[0])
    expect(new Set(await Promise.all(firsts)).size).toBe(4)
  })

  it('need a text of at least one window, and a tokenizer', async () => {
    const file = await write('short.txt', 'Once upon a time')
    const length = tokenizer.encode('Once upon a time').length
    await expect(readWindows(file, tokenizer, { sequenceLength: 256 })).rejects.toThrow(`gives ${length} tokens, but one window needs 256`)
    await expect(readWindows(file, undefined, { sequenceLength: 4 })).rejects.toThrow(/no tokenizer/)
    await expect(readWindows(await write('empty.txt', ''), tokenizer, { sequenceLength: 4 })).rejects.toThrow(/gives 0 tokens/)
  })
})

describe('token ids in a JSON file', () => {
  it('are used unchanged when they are arrays', async () => {
    const file = await write('ids.json', [
      [5, 6, 7],
      [8, 9, 10],
      [11, 12, 13],
    ])
    const { windows, tokens } = await readWindows(file, undefined, { sequenceLength: 2048, maxWindows: 2 })
    expect(windows).toEqual([Int32Array.of(5, 6, 7), Int32Array.of(8, 9, 10)])
    expect(tokens).toBe(6)
    const all = await readWindows(file, undefined, { sequenceLength: 2048, seed: 1 })
    expect(all.windows).not.toEqual((await readWindows(file, undefined, { sequenceLength: 2048 })).windows)
    expect(flatten(all.windows).sort((a, b) => a - b)).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13])
  })

  it('are cut like those of a text when they are one run', async () => {
    const { windows } = await readWindows(await write('run.json', [1, 2, 3, 4, 5]), undefined, { sequenceLength: 2 })
    expect(windows).toEqual([Int32Array.of(1, 2), Int32Array.of(3, 4)])
  })

  it('must be whole numbers from 0', async () => {
    for (const [i, id] of [-1, 1.5, '7', null, 2 ** 31, [3]].entries()) {
      const file = await write(`bad-${i}.json`, [
        [1, 2],
        [3, id],
      ])
      await expect(readWindows(file, undefined, { sequenceLength: 2 })).rejects.toThrow(
        /Window 1 of .* has the token id .*must be a whole number, 0 or more/,
      )
    }
    await expect(readWindows(await write('one.json', [[1]]), undefined, { sequenceLength: 2 })).rejects.toThrow(/at least 2/)
  })
})
