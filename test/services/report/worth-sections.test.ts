import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { worthSection } from '#services/report/sections.ts'
import { toHtml } from '#services/report/write-blocks.ts'

/** Three windows, on which files differ by hardly more than a factor. */
const lossesOf = (perplexity: number) => [-0.2, 0, 0.2].map((own) => Math.log(perplexity) + own + 1e-4 * own * perplexity)

const run = (file: string, method: string, megabytes: number, prose: number, weights?: string, more: object[] = []) =>
  ({
    id: file,
    file,
    method,
    status: 'done',
    createdAt: 1,
    model: { id: 'model-1', name: 'tiny' },
    fingerprint: null,
    lineage: { model: 'model-1', content: null, pruned: false },
    nominal: megabytes,
    seed: 0,
    parameters: weights ? { weights, 'calibration.source': 'c4' } : {},
    calibration: null,
    evaluation: [{ source: 'prose', hash: 'a' }],
    measures: [
      { name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' },
      { name: 'perplexity', dataset: 'prose', value: prose, unit: '', on: { hash: 'a', count: 3 }, losses: lossesOf(prose) },
      ...more,
    ],
  }) as unknown as ComparedRun

test('a report says whether pruning is worth it, with a table and a picture whose rivals are squares', async () => {
  const runs = [run('dense Q4_0', 'dense', 80, 31.2, 'Q4_0'), run('2SSP 25 % in Q8_0', '2ssp', 81, 38.9, 'Q8_0')]
  const html = toHtml('Report', await worthSection({ baseline: null, runs }))
  expect(html).toContain('Do not prune: at 80 MB, dense Q4_0 is better than 2SSP 25 % in Q8_0. Perplexity on prose: 31.2 against 38.9')
  expect(html).toContain('Looping answers: not tested on the same prompts for 2SSP 25 % in Q8_0 against dense Q4_0.')
  expect(html).toMatch(/<td class="number">×1\.25 \(1\.2\d to 1\.2\d\)<|<td>×1\.25 \(1\.2\d to 1\.2\d\)</)
  expect(html).toContain('prose (decides)')
  expect(html).toMatch(/31\.2\d* ◆/)
  expect(html.match(/<rect[^>]*width="8"/g)).toHaveLength(2)
  expect(html.match(/<circle/g)).toHaveLength(2)
})

test('a report says of a win that its answers loop, and gives accuracies in percent', async () => {
  const loops = (hits: string) => ({
    name: 'looping answers',
    dataset: 'prose',
    value: Number(hits[0]),
    unit: 'share',
    on: { hash: 'p', count: 20 },
    hits,
  })
  const dense = run('dense Q4_0', 'dense', 80, 40, 'Q4_0', [
    { name: 'accuracy', dataset: 'arc', value: 0.456, unit: 'share' },
    loops('0'.repeat(20)),
  ])
  const runs = [run('dense', 'dense', 200, 30), dense, run('2SSP', '2ssp', 80, 30, 'Q8_0', [loops('1'.repeat(20))])]
  const html = toHtml('Report', await worthSection({ baseline: null, runs }))
  expect(html).toContain('better, but its answers loop')
  expect(html).toContain('>45.6 % ◆<')
})

test('runs without a weight type have no such section', async () => {
  expect(await worthSection({ baseline: null, runs: [run('dense', 'dense', 80, 30), run('2SSP 25 %', '2ssp', 60, 40)] })).toEqual([])
})
