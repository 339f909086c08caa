import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ExportedRun } from '#contract/exports/exports.ts'
import { layoutOf } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { describeModel } from '#engine/export/model-card.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

let model: Model
beforeAll(async () => {
  await openBackend(testedBackend)
  model = await openModel(join(import.meta.dirname, '../../../resources/sample-model'))
})
afterAll(() => model.close())

const text = (source: string) => ({ source, windows: 8, sequenceLength: 256 })
const run: ExportedRun = {
  seed: 7,
  baseModel: 'org/model',
  calibration: [text('c4')],
  repair: { kind: 'in-order', texts: [text('c4'), text('Mixed text')] },
  recovery: { tokens: 262_144, trains: 'low-rank', texts: [text('code')] },
  weights: null,
  measures: [
    { name: 'perplexity', dataset: 'wikitext2', before: 10.5, after: 12.25 },
    { name: 'bits per byte', dataset: 'wikitext2', before: null, after: 0.75 },
  ],
}
const cardOf = (of: Partial<ExportedRun>, types: string[], method = '2ssp') =>
  describeModel({ model, plan: densePlan(model.spec), method, run: { ...run, ...of } }, '', types)

test('the card names repair and recovery, with their texts', () => {
  const card = cardOf({}, [])
  expect(card).toContain('Repaired block by block on 8 windows of 256 tokens of c4 and 8 windows of 256 tokens of Mixed text.')
  expect(card).toContain('Recovered by training a change of rank 16 to each weight for 262,144 tokens of code.')
  expect(cardOf({ repair: null, recovery: null }, [])).not.toMatch(/Repaired|Recovered/)
})

test('the card states perplexities only beside what they were measured on', () => {
  const row = '| perplexity on wikitext2 | 10.5000 | 12.2500 |\n| bits per byte on wikitext2 | not measured | 0.7500 |'
  for (const types of [[], ['F16'], ['F32', 'BF16']]) expect(cardOf({}, types), types.join()).toContain(row)
  for (const types of [['Q2_K'], ['F16', 'Q2_K']]) {
    expect(cardOf({}, types)).not.toContain('12.25')
    expect(cardOf({}, types)).toContain(`measured on the weights as computed, not on ${types.join(' or ')}.`)
  }
  expect(cardOf({ weights: 'Q2_K' }, ['Q2_K'])).toContain(row)
  for (const types of [[], ['F16']]) {
    expect(cardOf({ weights: 'Q2_K' }, types)).not.toContain('12.25')
    expect(cardOf({ weights: 'Q2_K' }, types)).toContain('measured on the weights as stored in Q2_K, not on')
  }
})

test('the card of a dense model does not call it pruned', () => {
  const card = cardOf({ calibration: [], repair: null, recovery: null }, [], 'dense')
  expect(card).not.toMatch(/pruned|calibrated/i)
  expect(card).toContain('Nothing was removed')
  expect(card).toContain('| perplexity on wikitext2 | 12.2500 |')
})

test('a run with many texts does not make a GGUF file larger than the room that a size budget leaves', async () => {
  const described = { model, plan: densePlan(model.spec), method: '2ssp' }
  const planned = await gguf.fileBytes(described, 'F16')
  const many = { ...run, calibration: Array.from({ length: 20 }, (_, at) => text(`${at} ${'long name '.repeat(20)}`)) }
  expect((await gguf.fileBytes({ ...described, run: many }, 'F16')) - planned).toBeLessThanOrEqual(2048)
  expect((await gguf.fileBytes({ ...described, run }, 'F16')) - planned).toBeGreaterThan(200)
})

test('the card says which experts and neurons of a mixture stay', async () => {
  const mixture = await openModel(await referenceModel('mixtral'))
  try {
    const dense = densePlan(mixture.spec)
    const count = layoutOf(mixture.spec, 0).experts ?? 0
    const width = layoutOf(mixture.spec, 0).width
    const blocks = dense.blocks.map((block, index) =>
      index === 0
        ? {
            ...block,
            mlp: {
              kept: 'all' as const,
              experts: [0, 2],
              keptByExpert: [
                [0, 1],
                [2, 3],
              ],
            },
          }
        : block,
    )
    const card = describeModel({ model: mixture, plan: { ...dense, blocks }, method: 'reap' }, '')
    expect(card).toContain(`| 0 | kept | 2 of ${count} experts, 2 of ${width} neurons in each expert |`)
    expect(card).toContain('| 1 | kept | kept |')
  } finally {
    await mixture.close()
  }
})
