import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { whyApart } from '#contract/comparison/comparable.ts'
import type { Measure } from '#contract/runs/measures.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readDeclarations } from '#engine/data/bundled.ts'
import { openSpec } from '#engine/model/model.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { equalBytes, vocabulary } from '#engine/pruning/methods/vocabulary.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { checkRequests } from '#engine/tasks/check-request.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const root = join(import.meta.dirname, '../../../..')
const sample = join(root, 'resources/sample-model')
const home = scratchFolder('rows')
let text: string
beforeAll(async () => {
  await openBackend('tensorflow')
  text = join(home, 'text.txt')
  await writeFile(text, (await readFile(join(sample, 'test.txt'), 'utf8')).slice(0, 20_000))
})

const perplexity = (windows: number) => ({
  kind: 'perplexity' as const,
  name: 'text',
  data: { source: text, sequenceLength: 128, windows },
})

function request(options: object, changes: Partial<RunRequest> = {}): RunRequest {
  return {
    model: sample,
    method: 'vocabulary',
    amount: { sparsity: 0 },
    options: { ...options },
    seed: 0,
    calibration: { source: text, sequenceLength: 128 },
    measures: [perplexity(8)],
    backend: 'tensorflow',
    ...changes,
  }
}

const run = (asked: RunRequest): Promise<RunDocument> => executeRun(asked, hostIn(home))

const resultOf = ({ measures }: RunDocument, name: string): Measure => measures.find((one) => one.name === name) as Measure

describe('removing rows of the vocabulary', () => {
  it('ends between two numbers of rows that it compares, once it is cancelled', async () => {
    const cancelling = new AbortController()
    const phases: string[] = []
    const host = hostIn(home, undefined, (event) => {
      if (event.type !== 'progress') return
      phases.push(event.progress.phase)
      if (event.progress.phase === 'Comparing numbers of rows') cancelling.abort()
    })
    await expect(executeRun(request({ coverage: 0.97 }), { ...host, signal: cancelling.signal })).rejects.toThrow(/abort/i)
    expect(phases.filter((phase) => phase === 'Comparing numbers of rows')).toHaveLength(1)
    expect(phases.at(-1)).toBe('Comparing numbers of rows')
  })

  it('costs nothing on the text that it was ranked by, and says on how many of its bytes ids are equal', async () => {
    const dense = await run(request({}, { method: 'dense', calibration: undefined }))
    const own = await run(request({ coverage: 1, prior: 0 }))
    expect(own.plan.vocabulary?.kept.length).toBeLessThan(3072)
    expect(resultOf(own, 'bits per byte').value).toBeLessThan(resultOf(dense, 'bits per byte').value)
    expect(resultOf(own, 'perplexity').value).toBeLessThan(resultOf(dense, 'perplexity').value)
    expect(resultOf(own, 'perplexity').losses?.length).toBe(8)
    const dearer = resultOf(own, 'perplexity').losses?.filter(
      (loss, window) => loss > (resultOf(dense, 'perplexity').losses?.[window] as number) + 1e-6,
    )
    expect(dearer).toEqual([])
    expect(own.notes.join(' ')).toMatch(/cover 100 % of the text's [\d,]+ tokens.* bytes of the text \(100 %\) have equal ids/)
    const [whole, block] = own.measures.filter(({ name }) => name === 'parameters')
    const [before, stack] = dense.measures.filter(({ name }) => name === 'parameters')
    expect(block?.value).toBe(stack?.value)
    expect(own.sparsity.reached).toBeCloseTo(1 - (whole?.value as number) / (before?.value as number), 12)
    expect(own.sparsity.nominal).toBe(own.sparsity.reached)
  })

  it('counts all of the text, unless it is asked for some windows of it', async () => {
    const all = await run(request({ rows: 1000 }, { measures: [] }))
    const tokens = (await openTokenizer(sample)).encode(await readFile(text, 'utf8')).length
    expect(all.calibration).toMatchObject({ tokens, windows: Math.floor(tokens / 128) })
    expect(all.ranking?.texts[0]?.tokens).toBe(tokens)
    const some = await run(request({ rows: 1000, windows: 4 }, { measures: [] }))
    expect(some.calibration?.tokens).toBeUndefined()
    expect(some.ranking?.texts[0]?.tokens).toBe(4 * 128)
    const asked = await run(request({ rows: 1000 }, { measures: [], calibration: { source: text, sequenceLength: 128, windows: 5 } }))
    expect(asked.ranking?.texts[0]?.tokens).toBe(5 * 128)
    // A text that fills no window can rank rows too.
    const short = join(home, 'short.txt')
    await writeFile(short, 'A few words.')
    const few = await run(request({ rows: 1000 }, { measures: [], calibration: { source: short, sequenceLength: 128 } }))
    expect(few.calibration?.windows).toBe(1)
  })

  it('proves equal ids on a sample of a long text, and says so', async () => {
    const long = join(home, 'long.txt')
    await writeFile(long, (await readFile(text, 'utf8')).repeat(140))
    const own = await run(request({ coverage: 1, prior: 0 }, { measures: [], calibration: { source: long, sequenceLength: 128 } }))
    expect(own.notes.join(' ')).toMatch(/bytes of a sample of \d[\d.]* % of the text \(drawn with seed 0\) \(100 %\) have equal ids/)
  })

  it('is compared with the dense model by bits per byte on the same bytes, and never by perplexity', async () => {
    const dense = await run(request({}, { method: 'dense', calibration: undefined }))
    const own = await run(request({ rows: 1000 }))
    const lineage = { model: 1, content: 'a', path: [] }
    const compared = ({ measures }: RunDocument) => ({ model: { id: 1 }, fingerprint: 'a', lineage, measures }) as never
    expect(whyApart(compared(own), compared(dense), { name: 'bits per byte', dataset: 'text' })).toBeNull()
    expect(whyApart(compared(own), compared(dense), { name: 'perplexity', dataset: 'text' })).toBe(
      'its tokens are those of another vocabulary',
    )
    expect(whyApart(compared(own), compared(own), { name: 'perplexity', dataset: 'text' })).toBeNull()
    const other = await run(request({ rows: 900 }))
    expect(whyApart(compared(own), compared(other), { name: 'perplexity', dataset: 'text' })).not.toBeNull()
    expect(resultOf(own, 'bits per byte').value).toBeGreaterThan(resultOf(dense, 'bits per byte').value)
    // Only the parts of a window's first token count in one of them.
    const [bytes, all] = [own, dense].map((one) => resultOf(one, 'bits per byte').on?.bytes as number)
    expect(Math.abs((bytes as number) - (all as number))).toBeLessThan(8 * 16)
    expect(Math.max(...(own.plan.vocabulary?.kept ?? []))).toBeLessThan(3072)
  })

  it('keeps the number, the share or the amount that was asked for', async () => {
    const keptBy = async (options: object, changes: Partial<RunRequest> = {}) =>
      (await run(request(options, { measures: [], ...changes }))).plan.vocabulary?.kept.length
    expect(await keptBy({ rows: 1234 })).toBe(1234)
    expect(await keptBy({ share: 0.5 })).toBe(1536)
    // 2,755,712 parameters with rows of 128, the head tied.
    expect(await keptBy({}, { amount: { sparsity: 0.1 } })).toBe(3072 - Math.ceil(275571.2 / 128))
    expect(await keptBy({}, { amount: { sparsity: 0 } })).toBeUndefined()
  })

  it('keeps what chosen languages are written with, and says what other numbers of rows would keep of each', async () => {
    const found = await run(request({ rows: 1500, prior: 0 }, { measures: [] }))
    const own = await run(request({ rows: 1500, prior: 0, languages: ['German', 'Greek'] }, { measures: [] }))
    const tokenizer = await openTokenizer(sample)
    const declarations = await readDeclarations()
    const covers = ({ plan }: RunDocument, language: string) => {
      const kept = new Set(plan.vocabulary?.kept)
      return tokenizer.encode(declarations.get(language) ?? '').every((id) => kept.has(id))
    }
    expect([covers(own, 'German'), covers(own, 'Greek'), covers(own, 'Finnish'), covers(found, 'German')]).toEqual([
      true,
      true,
      false,
      false,
    ])
    const { texts = [], points = [] } = own.ranking ?? {}
    const atRows = points.find(({ rows }) => rows === 1500)
    const covered = (name: string) => atRows?.covered[texts.findIndex((text) => text.name === name)]
    expect([covered('German'), covered('Greek')]).toEqual([1, 1])
    expect(covered('Finnish')).toBeLessThan(1)
    expect(points.at(-1)?.rows).toBe(3072)
    // The model's size with all rows is that of its file of tensors, and a row has 128 numbers of two bytes.
    const perRow = ((points.at(-1)?.bytes ?? 0) - (atRows?.bytes ?? 0)) / (3072 - 1500)
    expect(perRow).toBeCloseTo(256, 0)
  })

  it('meets a file size with a plan of that size', async () => {
    const dense = await run(request({}, { method: 'dense', calibration: undefined, measures: [], weights: 'F16' }))
    const bytes = Math.round((resultOf(dense, 'size').value as number) * 0.95)
    const own = await run(request({}, { amount: { bytes, format: 'gguf', type: 'F16' }, measures: [], weights: 'F16' }))
    expect(own.budget?.real).toBeLessThanOrEqual(bytes)
    expect(own.budget?.real).toBeGreaterThan(0.97 * bytes)
    expect(own.plan.vocabulary?.kept.length).toBeGreaterThan(257)
  })

  it('measures the file that holds the remaining rows', async () => {
    const own = await run(request({ rows: 1000 }, { weights: 'F32' }))
    const computed = await run(request({ rows: 1000 }))
    expect(resultOf(own, 'perplexity').value).toBeCloseTo(resultOf(computed, 'perplexity').value, 3)
    expect(resultOf(own, 'size').value).toBeLessThan(resultOf(computed, 'size').value * 2.2)
  })

  it('says before it runs how much it will remove', async () => {
    const { spec, checkpoint } = await openSpec(sample)
    await checkpoint.close()
    const method = findMethod('vocabulary')
    const outline = outlineOf(method, spec, budgetFor(spec, { sparsity: 0 }), { rows: 1000 })
    expect(outline.reached).toBeCloseTo(((3072 - 1000) * 128) / 2755712, 12)
    expect(outlineOf(method, spec, budgetFor(spec, { sparsity: 0 }), { coverage: 0.9 }).reached).toBeNull()
    const [preview] = await checkRequests([request({ rows: 1000 })])
    expect(preview?.problems).toEqual([])
    expect(preview?.formats.filter(({ problem }) => problem === null).length).toBeGreaterThan(2)
    const [tooMuch] = await checkRequests([request({}, { amount: { sparsity: 0.5 } })])
    expect(tooMuch?.problems[0]?.message).toMatch(/Vocabulary removes at most 14.3 % of this model's parameters/)
  })

  it('refuses what it cannot do, and says what to choose', async () => {
    const fails = (options: object, changes: Partial<RunRequest> = {}) =>
      expect(run(request(options, { measures: [], ...changes }))).rejects
    await fails({ rows: 100 }).toThrow(/100 rows are fewer than the 257 that always stay/)
    await fails({ rows: 4000 }).toThrow(/4,000 rows cannot be kept: the model has 3,072/)
    await fails({ rows: 1000, share: 0.5 }).toThrow(/Give one of them/)
    await fails({ rows: 1000, scripts: 'Elvish' }).toThrow(/"Elvish" is not the Unicode name of a script/)
    const bare = await referenceModel('qwen2-tiny-tied')
    await fails({ rows: 300 }, { model: bare, calibration: { source: join(home, 'ids.json'), sequenceLength: 8 } }).toThrow()
    await writeFile(join(home, 'ids.json'), JSON.stringify([[1, 2, 3, 4, 5, 6, 7, 8]]))
    await fails({ rows: 300 }, { model: bare, calibration: { source: join(home, 'ids.json'), sequenceLength: 8 } }).toThrow(
      /no tokenizer.json/,
    )
    await writeFile(join(home, 'empty.txt'), '')
    await fails({ rows: 1000 }, { calibration: { source: join(home, 'empty.txt'), sequenceLength: 8 } }).toThrow(/empty.txt/)
    expect(vocabulary.refitProblem?.({} as never)).toMatch(/no weights/)
  })
})

it('counts bytes in tokens that are the same at the same place', () => {
  const bytesOf = (id: number) => id % 10
  expect(equalBytes([1, 2, 3], [1, 2, 3], bytesOf)).toEqual({ equal: 6, bytes: 6 })
  expect(equalBytes([1, 4, 3], [1, 2, 12, 3], bytesOf)).toEqual({ equal: 4, bytes: 8 })
  expect(equalBytes([20, 1, 3], [1, 13], bytesOf)).toEqual({ equal: 1, bytes: 4 })
  expect(equalBytes([], [], bytesOf)).toEqual({ equal: 0, bytes: 0 })
})
