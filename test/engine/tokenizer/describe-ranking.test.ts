import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { languages } from '#contract/pruning/token-ranking.ts'
import { readDeclarations } from '#engine/data/bundled.ts'
import { describeRanking } from '#engine/tokenizer/describe-ranking.ts'
import { chooseTokens } from '#engine/tokenizer/kept-tokens.ts'
import { TrimmedTokenizer } from '#engine/tokenizer/reread-windows.ts'
import { openTokenizer, openTokenizerFiles } from '#engine/tokenizer/tokenizer.ts'
import { referenceModel } from '../../fixtures/reference.ts'

const root = join(import.meta.dirname, '../../..')

test.each([
  ['bytes', async () => join(root, 'resources/sample-model'), 3072],
  ['SentencePiece', () => referenceModel('stories260k'), 512],
])('a tokenizer of %s is described with more and fewer rows as it reads with them', async (_, open, rows) => {
  const path = await open()
  const [files, whole] = [await openTokenizerFiles(path), await openTokenizer(path)]
  const text = (await readFile(join(root, 'test/fixtures/texts/wikitext-2-test.txt'), 'utf8')).slice(0, 20_000)
  const counts = new Float64Array(rows)
  for (const id of whole.encode(text)) counts[id] = (counts[id] ?? 0) + 1
  const asked = { target: { rows: Math.round(rows * 0.9) }, prior: 0, scripts: [] }
  const { order, always, kept } = await chooseTokens(files, whole, counts, asked, { rows, named: [] })
  expect(new Set(order).size).toBe(order.length)
  expect(order.length).toBeGreaterThan(rows * 0.95)
  const texts = [
    { name: 'ranking text', counts, sample: 'The plant, naïve “1,234” 東 🙂 of them!' },
    { name: 'nothing', counts: new Float64Array(rows), sample: '' },
  ]
  const how = { order, least: always, chosen: kept.length, bytesOf: (count: number) => 10 * count }
  const { points, samples } = await describeRanking(files, how, texts, () => undefined)
  expect(points.map((point) => point.rows)).toContain(kept.length)
  expect(points.map(({ rows: count }) => count)).toEqual(points.map(({ rows: count }) => count).sort((a, b) => a - b))
  expect(points.at(-1)).toMatchObject({ rows: order.length, bytes: 10 * order.length, covered: [1, 1] })
  const shares = points.map(({ covered }) => covered[0] as number)
  expect(shares).toEqual([...shares].sort((a, b) => a - b))

  const [sample] = samples
  for (const [point, { rows: count }] of points.entries()) {
    const prefix = order.slice(0, count).sort((a, b) => a - b)
    const { tokenizer } = new TrimmedTokenizer(whole, files, prefix)
    const ends = sample?.ends[point] ?? []
    const ids = tokenizer.encode(sample?.text ?? '')
    expect(ends).toHaveLength(ids.length)
    expect(ends.at(-1)).toBe(sample?.text.length)
    const covered = [...counts].reduce((sum, own, id) => sum + (prefix.includes(id) ? own : 0), 0)
    expect(shares[point]).toBeCloseTo(covered / counts.reduce((sum, own) => sum + own, 0), 12)
    // The first word ends with the token that completes it.
    expect(ends).toContain(3)
  }
  // Fewer rows never read the sample as fewer tokens.
  const lengths = (sample?.ends ?? []).map(({ length }) => length)
  expect(lengths[0]).toBeGreaterThan(lengths.at(-1) as number)
})

test('there is a declaration in each language that can be kept', async () => {
  const declarations = await readDeclarations()
  expect([...declarations.keys()].sort()).toEqual([...languages])
  expect(declarations.get('German')).toContain('Alle Menschen sind frei und gleich')
})
