import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { comparisonSection, resultSection } from '#services/report/sections.ts'

const run = (seed: number, measures: object[]) =>
  ({
    id: `${seed}`,
    name: `2SSP 25 %, seed ${seed}`,
    method: '2ssp',
    model: { id: 'model-1', name: 'tiny' },
    fingerprint: null,
    lineage: { model: 'model-1', content: null, pruned: false },
    nominal: 0.25,
    reached: 0.25,
    seed,
    parameters: {},
    evaluation: [],
    measures,
  }) as unknown as ComparedRun

test('a line joins runs of a method that differ only in their amount; the legend names the method once', async () => {
  const at = (amount: number, alpha: number) => ({
    ...run(0, [{ name: 'perplexity', dataset: 'prose', value: 20 + amount, unit: '', on: { hash: 'a', count: 1 } }]),
    nominal: amount,
    reached: amount,
    parameters: { 'amount.sparsity': amount, alpha },
  })
  const svg = await pictureOf([at(0.25, 1), at(0.5, 1), at(0.375, 2)])
  expect([...(svg ?? '').matchAll(/<path d="([^"]*)"/g)].map(([, path]) => path?.match(/L/g)?.length ?? 0)).toEqual([1, 0])
  expect(svg?.match(/>2SSP</g)).toHaveLength(1)
})

const pictureOf = async (runs: ComparedRun[]) => {
  const blocks = await comparisonSection({ baseline: null, runs }, true, (_, option) => option)
  return blocks.flatMap((block) => (block.kind === 'picture' ? [block.svg] : []))[0]
}

test('the error of a single perplexity is not drawn as a deviation over seeds', async () => {
  const perplexity = (value: number, error?: number) => ({
    name: 'perplexity',
    dataset: 'prose',
    value,
    unit: '',
    error,
    on: { hash: 'a', count: 1 },
  })
  const size = { name: 'size', dataset: '', value: 9, unit: 'bytes' }
  const plain = await pictureOf([run(0, [perplexity(20)]), run(1, [size])])
  expect(plain).toContain('<svg')
  expect(await pictureOf([run(0, [perplexity(20, 3)]), run(1, [size])])).toBe(plain)
  expect(await pictureOf([run(0, [perplexity(17)]), run(1, [perplexity(23)])])).not.toBe(plain)
})

test('what cannot be compared is no line and no rival, and the report says why', async () => {
  const at = (amount: number, hash: string, count: number) => ({
    ...run(0, [{ name: 'perplexity', dataset: 'prose', value: 20 + amount, unit: '', on: { hash, count, sequenceLength: 512 } }]),
    name: `2SSP ${100 * amount} %`,
    nominal: amount,
    reached: amount,
    parameters: { 'amount.sparsity': amount },
  })
  const blocks = await comparisonSection({ baseline: null, runs: [at(0.25, 'a', 8), at(0.5, 'b', 4)] }, true, (_, option) => option)
  const paths = blocks.flatMap((block) => (block.kind === 'picture' ? [...block.svg.matchAll(/<path d="([^"]*)"/g)] : []))
  expect(paths.map(([, path]) => path?.match(/L/g)?.length ?? 0)).toEqual([0, 0])
  const reason = 'Not compared with the others: 2SSP 50 % (measured on 4 windows of 512 tokens, not 8 windows of 512 tokens).'
  expect(blocks).toContainEqual({ kind: 'text', text: reason })
  expect(
    blocks.flatMap((block) => (block.kind === 'table' ? [block.caption?.includes(reason.replace(':', ' by perplexity (prose):'))] : [])),
  ).toContain(true)
})

test('the result names the best at each sparsity, against the unpruned model, and who is as good', () => {
  const measured = (method: string, nominal: number, shifts: number[]) => {
    const losses = [1, 5, 9].map((loss, at) => loss + (shifts[at] ?? 0))
    const value = Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / 3)
    const on = { hash: 'a', count: 3, sequenceLength: 64 }
    return {
      ...run(0, [{ name: 'perplexity', dataset: 'prose', value, unit: '', on, losses }]),
      id: method,
      name: nominal === 0 ? 'Dense' : `${method} 25 %`,
      method,
      nominal,
      reached: nominal,
    }
  }
  const runs = [
    measured('dense', 0, [0, 0, 0]),
    measured('2ssp', 0.25, [0.1, 0.11, 0.12]),
    measured('shortgpt', 0.25, [0.12, 0.11, 0.115]),
    measured('blockpruner', 0.25, [0.5, 0.51, 0.52]),
  ]
  expect(resultSection({ baseline: null, runs }).map((block) => ('text' in block ? block.text : ''))).toEqual([
    'Result',
    expect.stringMatching(
      /^Best of 3: 2ssp 25 %, with perplexity \(prose\) 165\.7, ×1\.12 \(1\.09 to 1\.14\) of the unpruned model’s \(95 % interval over 3 windows\)\. No clear difference from shortgpt 25 %\.$/,
    ),
  ])
  expect(resultSection({ baseline: null, runs: [] })).toEqual([])
})
