import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { memory, type Rank, randomNormal, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Divergence, TokenPage } from '#contract/inspection/divergence.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Windows } from '#engine/data/windows.ts'
import { summarize } from '#engine/evaluation/divergence/summary.ts'
import { compareTokens, makeTokenPage, pagesOf, type Subject } from '#engine/evaluation/divergence/token-page.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import type { HeadChunk } from '#engine/model/parts/head/embedding-and-head.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { type ReferenceModel, referenceModel, referenceWindows } from '../../fixtures/reference.ts'

type Pair = [value: number, error: number]

interface Expected {
  plan: [attention: boolean, kept: 'all' | 'removed' | number[]][]
  mean: Pair
  quantiles: number[]
  largest: number
  sameTop: Pair
  changeMean: Pair
  changeRms: Pair
  densePerplexity: number
  perplexity: number
  perplexityRatio: Pair
  tokens: number[]
  blocks: Record<'stream' | 'attention' | 'mlp', [error: number, cosine: number | null]>[]
}

const expected = JSON.parse(readFileSync(join(import.meta.dirname, '../../fixtures/divergence/expected.json'), 'utf8')) as Record<
  string,
  Expected
>
const signal = new AbortController().signal
let windows: Windows

beforeAll(async () => {
  await openBackend('auto')
  windows = (await referenceWindows('test')).slice(0, 6).map((window) => window.subarray(0, 64))
})

const planOf = ({ plan }: Expected): Plan => ({
  blocks: plan.map(([attention, kept]) => ({
    attention: attention ? 'kept' : 'removed',
    mlp: kept === 'removed' ? 'removed' : { kept },
  })),
})

async function diverge(model: Model, plans: readonly Plan[]): Promise<{ pages: TokenPage[]; summary: Omit<Divergence, 'data'> }> {
  const subjects: Subject[] = plans.map((plan) => ({ plan, view: viewWithPlan(model, plan) }))
  const pages: TokenPage[] = []
  const context = { view: denseView(model), subjects, tokenizer: undefined, signal }
  for (const [page, group] of pagesOf(windows).entries()) pages.push(await makeTokenPage(context, page, group))
  for (const { view } of subjects) view.dispose()
  const runs = plans.map((_, index) => ({ id: `run-${index}`, name: `run ${index}`, method: '2ssp', reached: 0.5 }))
  return { pages, summary: summarize(pages, runs) }
}

const near = (found: number | null | undefined, wanted: number) =>
  expect(Math.abs((found ?? Number.NaN) - wanted)).toBeLessThan(1e-4 * Math.max(1e-2, Math.abs(wanted)))

describe.each(['stories260k', 'phi-tiny'] as const)('%s', (name: ReferenceModel) => {
  test('divergences, their errors and the damage by block are those of PyTorch, both runs in one pass', async () => {
    const model = await openModel(await referenceModel(name))
    const wanted = ['depth', 'width'].map((kind) => expected[`${name} ${kind}`] as Expected)
    const { pages, summary } = await diverge(model, wanted.map(planOf))
    expect(summary.pages).toEqual([64, 320])
    expect(summary.tokens).toBe(6 * 63)
    for (const [index, right] of wanted.entries()) {
      const { numbers, blocks } = summary.runs[index] as Divergence['runs'][number]
      near(summary.dense.perplexity.value, right.densePerplexity)
      near(numbers.perplexity.value, right.perplexity)
      for (const measure of ['mean', 'sameTop', 'changeMean', 'changeRms', 'perplexityRatio'] as const) {
        near(numbers[measure].value, right[measure][0])
        near(numbers[measure].error, right[measure][1])
      }
      const quantiles = [numbers.median, numbers.p90, numbers.p95, numbers.p99, numbers.p999]
      for (const [at, { value }] of quantiles.entries()) near(value, right.quantiles[at] ?? Number.NaN)
      near(numbers.largest, right.largest)
      for (const [at, divergence] of right.tokens.entries()) near(pages[0]?.runs[index]?.divergence[at + 1], divergence)
      for (const [block, parts] of right.blocks.entries()) {
        for (const part of ['stream', 'attention', 'mlp'] as const) {
          near(blocks?.[block]?.[part]?.error, parts[part][0])
          if (parts[part][1] === null) expect(blocks?.[block]?.[part]?.cosine).toBeNull()
          else near(blocks?.[block]?.[part]?.cosine, parts[part][1])
        }
      }
    }
    await model.close()
  })
})

test('a plan that removes nothing, by name or by a list of all neurons, differs nowhere', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const dense = densePlan(model.spec)
  const all = Array.from({ length: model.spec.blocks[0]?.width ?? 0 }, (_, neuron) => neuron)
  const listed: Plan = { blocks: dense.blocks.map((block) => ({ ...block, mlp: { kept: all } })) }
  const { summary } = await diverge(model, [dense, listed])
  for (const { numbers, blocks, worst, groups } of summary.runs) {
    for (const measure of ['mean', 'median', 'p90', 'p95', 'p99', 'p999', 'changeMean', 'changeRms'] as const)
      expect(numbers[measure].value).toBe(0)
    expect(numbers).toMatchObject({ largest: 0, sameTop: { value: 1 }, perplexityRatio: { value: 1 } })
    expect(worst).toEqual([])
    for (const group of groups) expect(group).toMatchObject({ divergence: { value: 0 }, sameTop: { value: 1 }, lossChange: { value: 0 } })
    for (const { stream } of blocks ?? []) expect(stream.error).toBe(0)
  }
  await model.close()
})

test('a head in pieces gives the same as the whole head', async () => {
  const [rows, size, width] = [7, 103, 16]
  const drawn = (height: number, seed: number) => randomNormal<Rank.R2>([height, width], 0, 1, 'float32', seed)
  const [head, dense, ...subjects] = [drawn(size, 1), drawn(rows, 2), drawn(rows, 3), drawn(rows, 4)] as [Tensor2D, Tensor2D, ...Tensor2D[]]
  const inPieces = (...pieces: number[]) => ({
    size,
    async forEachHeadChunk(use: (chunk: HeadChunk) => void | Promise<void>) {
      for (const [at, first] of pieces.entries()) {
        await use({ first, weight: slice(head, [first, 0], [(pieces[at + 1] ?? size) - first, -1]) })
      }
    },
  })
  const targets = Int32Array.from({ length: rows }, (_, row) => 17 * row)
  // Includes pieces with fewer tokens than the number of kept logits.
  const [whole, pieces] = [
    await compareTokens(inPieces(0), { dense, subjects }, targets, signal),
    await compareTokens(inPieces(0, 2, 50, 99), { dense, subjects }, targets, signal),
  ]
  for (const [index, right] of [whole.dense, ...whole.subjects].entries()) {
    const found = new Map(Object.entries([pieces.dense, ...pieces.subjects][index] as typeof right))
    expect(found.get('top')).toEqual(right.top)
    for (const [name, values] of Object.entries(right) as [string, Float64Array][]) {
      for (const [at, value] of values.entries()) expect(found.get(name)?.[at]).toBeCloseTo(value, 5)
    }
  }
})

test('runs that agree up to a block have the same numbers as alone', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const dense = densePlan(model.spec)
  const without = (...attentions: number[]): Plan => ({
    blocks: dense.blocks.map((block, index) => (attentions.includes(index) ? { ...block, attention: 'removed' } : block)),
  })
  const plans = [without(1, 3), without(1), without(1, 3), without(3), dense]
  const together = await diverge(model, plans)
  for (const [index, plan] of plans.entries()) {
    const alone = await diverge(model, [plan])
    for (const [page, { runs, distances }] of alone.pages.entries()) {
      expect(together.pages[page]?.runs[index]).toEqual(runs[0])
      expect(together.pages[page]?.distances[index]).toEqual(distances[0])
    }
  }
  await model.close()
})

test('pages leave no tensor behind, and their lists are as long as their text', async () => {
  const model = await openModel(await referenceModel('phi-tiny'))
  const plan = planOf(expected['phi-tiny depth'] as Expected)
  await diverge(model, [plan])
  const before = memory().numTensors
  const { pages } = await diverge(model, [plan])
  expect(memory().numTensors).toBe(before)
  for (const { texts, kinds, scripts, dense, runs, alternatives } of pages) {
    for (const list of [kinds, scripts, dense.loss, runs[0]?.divergence, runs[0]?.change]) expect(list).toHaveLength(texts.length)
    expect(dense.top).toHaveLength(texts.length * alternatives)
  }
  await model.close()
})
