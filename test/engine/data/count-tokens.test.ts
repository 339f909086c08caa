import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { type CountingRun, countData } from '#engine/data/count-tokens.ts'
import { openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const root = join(import.meta.dirname, '../../..')
const models = { 'byte-level': 'resources/sample-model', SentencePiece: 'test/fixtures/stories260k' }
const prose = await readFile(join(root, 'test/fixtures/texts/wikitext-2-test.txt'), 'utf8')

const place = scratchFolder('count')

async function write(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(place, name), content)
  return join(place, name)
}

const run = (more: Partial<CountingRun> = {}): CountingRun => ({
  signal: new AbortController().signal,
  progress: () => undefined,
  keep: (_, compute) => compute(),
  ...more,
})

const count = (tokenizer: Tokenizer, source: string, how = run(), more = {}) =>
  countData(tokenizer, tokenizer.size, { source, sequenceLength: 64, ...more }, {}, how)

function plainCount(tokenizer: Tokenizer, ...texts: string[]): Float64Array {
  const counts = new Float64Array(tokenizer.size)
  for (const text of texts) for (const id of tokenizer.encode(text)) counts[id] = (counts[id] ?? 0) + 1
  return counts
}

describe.each(Object.entries(models))('counting with a %s tokenizer', (_, model) => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = await openTokenizer(join(root, model))
  })

  it('gives the same counts as encoding the text at once, with characters of several bytes at every border of what is read', async () => {
    // Files are read 2^18 bytes at a time. The letters in front shift every following character across these borders.
    for (const shift of ['', 'a', 'ab', 'abc']) {
      const text = shift + '日本語の😀é。\n'.repeat(12_500) + prose
      const file = await write('long.txt', text)
      expect(Buffer.byteLength(text)).toBeGreaterThan(2 ** 18 + 2 * prose.length)
      const found = await count(tokenizer, file)
      expect([...found.counts]).toEqual([...plainCount(tokenizer, text)])
      expect(found.tokens).toBe(found.counts.reduce((sum, one) => sum + one, 0))
    }
  })

  it('joins documents and files as windows do, whatever they are stored in', async () => {
    const documents = [prose.slice(0, 3000), '', 'Short.', prose.slice(3000)]
    const lines = documents.map((text) => JSON.stringify({ text })).join('\n')
    const whole = [...plainCount(tokenizer, documents.join('\n\n'))]
    for (const file of [
      await write('lines.jsonl', lines),
      await write('lines.jsonl.gz', gzipSync(lines)),
      await write('array.json', JSON.stringify(documents)),
    ])
      expect([...(await count(tokenizer, file)).counts]).toEqual(whole)
    const ids = tokenizer.encode(prose.slice(0, 3000))
    const ready = await count(tokenizer, await write('ids.json', JSON.stringify(ids)))
    expect([...ready.counts]).toEqual([...plainCount(tokenizer, prose.slice(0, 3000))])
  })
})

describe('a counted text', () => {
  let tokenizer: Tokenizer
  let long: string
  beforeAll(async () => {
    tokenizer = await openTokenizer(join(root, models['byte-level']))
    long = await write('large.txt', Array.from({ length: 1000 }, (_, part) => `Part ${part} of these. ${prose}`).join('\n\n'))
  })

  it('is read again as passages: all of a short text, and a drawn sample of a long one, the same each time', async () => {
    const short = await write('short.txt', prose)
    const all = await count(tokenizer, short)
    expect(all.sampled).toBe(1)
    const again = plainCount(tokenizer, ...(await Array.fromAsync(all.passages())))
    expect([...again]).toEqual([...all.counts])
    const found = await count(tokenizer, long)
    expect(found.sampled).toBeLessThan(0.9)
    const sample = await Array.fromAsync(found.passages())
    const share = sample.join('').length / (await readFile(long, 'utf8')).length
    expect(Math.abs(share - found.sampled)).toBeLessThan(0.02)
    expect(await Array.fromAsync((await count(tokenizer, long)).passages())).toEqual(sample)
    const parts = sample.flatMap((passage) => [...passage.matchAll(/Part (\d+) of/g)].map(([, part]) => Number(part)))
    expect([Math.min(...parts) < 100, Math.max(...parts) > 900, new Set(parts).size === parts.length]).toEqual([true, true, true])
  })

  it('says how far it is in bytes, and stops at once when it is cancelled', async () => {
    const seen: [string, number, number, string][] = []
    const controller = new AbortController()
    let cancelled = 0
    const cancelling = run({
      signal: controller.signal,
      progress(...report) {
        seen.push(report)
        if (report[0] !== 'Counting tokens' || cancelled > 0) return
        cancelled = performance.now()
        controller.abort()
      },
    })
    await expect(count(tokenizer, long, cancelling)).rejects.toThrow(/abort/i)
    expect(performance.now() - cancelled).toBeLessThan(1000)
    const { length } = await readFile(long)
    const counting = seen.filter(([phase]) => phase === 'Counting tokens')
    expect(counting.length).toBe(1)
    expect(counting[0]?.[1]).toBeLessThan(length)
    expect(counting[0]?.slice(2)).toEqual([length, 'bytes'])
    const reports: number[] = []
    await count(tokenizer, long, run({ progress: (phase, done) => void (phase === 'Counting tokens' && reports.push(done)) }))
    expect(reports).toEqual(reports.toSorted((a, b) => a - b))
    expect(reports.at(-1)).toBe(length)
  })

  it('never holds much of the text in memory', async () => {
    const [line, times] = ['Every line is new: ', 220_000]
    const lines = Array.from(
      { length: times },
      (_, at) => `${line}${(at * 7919) % 1_000_003} ${(at * 31).toString(36)} and some usual words.`,
    )
    const file = await write('new.txt', lines.join('\n'))
    lines.length = 0
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as NodeJS.GCFunction
    /** What is held. When garbage is collected by itself differs from machine to machine. */
    const held = () => {
      collect()
      return process.memoryUsage().heapUsed
    }
    const before = held()
    let [most, reports] = [0, 0]
    const progress = () => {
      if (reports++ % 5 === 0) most = Math.max(most, held())
    }
    await count(tokenizer, file, run({ progress }))
    const { length } = await readFile(file)
    expect(length).toBeGreaterThan(10e6)
    expect(most - before).toBeLessThan(250e6)
  })

  it('counts several texts by their shares, and names them', async () => {
    const [few, many] = [await write('few.txt', 'one two three'), await write('many.txt', prose)]
    const mix = [few, many].map((source) => ({ source, share: 1 }))
    const found = await count(tokenizer, 'both', run(), { mix })
    const [own, others] = [plainCount(tokenizer, 'one two three'), plainCount(tokenizer, prose)]
    const total = (counts: Float64Array) => counts.reduce((sum, one) => sum + one, 0)
    expect(found.tokens).toBe(total(own) + total(others))
    for (const [id, one] of own.entries())
      expect(found.counts[id]).toBeCloseTo((found.tokens / 2) * (one / total(own) + (others[id] as number) / total(others)), 6)
    expect(found.used.parts?.map(({ source, tokens }) => [source, tokens])).toEqual([
      [few, total(own)],
      [many, total(others)],
    ])
    const turned = await count(tokenizer, 'both', run(), {
      mix: [
        { source: few, share: 1 },
        { source: many, share: 2 },
      ],
    })
    expect(turned.hash).not.toBe(found.hash)
  })

  it('is known by its content, not by its name', async () => {
    const [one, other] = [await write('one.txt', prose.slice(0, 5000)), await write('other.txt', prose.slice(0, 5000))]
    expect((await count(tokenizer, one)).hash).toBe((await count(tokenizer, other)).hash)
    await write('other.txt', prose.slice(0, 5001))
    expect((await count(tokenizer, one)).hash).not.toBe((await count(tokenizer, other)).hash)
  })

  it('is refused if it has no tokens, or ids that the model does not know', async () => {
    await expect(count(tokenizer, await write('empty.txt', ''))).rejects.toThrow(/empty.txt has no text/)
    await expect(count(tokenizer, await write('wrong.json', '[1, 2, 99999]'))).rejects.toThrow(
      /token id 99999; the model's vocabulary ends at/,
    )
  })
})
