import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compare.ts'
import { toHtml } from '#services/report/html.ts'
import { worthSection } from '#services/report/worth-sections.ts'

const run = (file: string, method: string, megabytes: number, prose: number, weights?: string, more: object[] = []) =>
  ({
    id: file,
    file,
    method,
    status: 'done',
    model: { id: 'model-1', name: 'tiny' },
    nominal: megabytes,
    seed: 0,
    parameters: weights ? { weights, 'calibration.source': 'c4' } : {},
    calibration: null,
    evaluation: [{ source: 'prose', hash: 'a' }],
    measures: [
      { name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' },
      { name: 'perplexity', dataset: 'prose', value: prose, unit: '' },
      ...more,
    ],
  }) as unknown as ComparedRun

test('a report says whether pruning is worth it, with a table and a picture whose rivals are squares', async () => {
  const runs = [run('dense Q4_0', 'dense', 80, 31.2, 'Q4_0'), run('2SSP 25 % in Q8_0', '2ssp', 81, 38.9, 'Q8_0')]
  const html = toHtml('Report', await worthSection({ baseline: null, runs }))
  expect(html).toContain('Do not prune. At 80 MB, dense Q4_0 is better than 2SSP 25 % in Q8_0 (perplexity 31.2 against 38.9 on prose')
  expect(html).toContain('Looping answers: not tested for 2SSP 25 % in Q8_0.')
  expect(html).toContain('prose (decides)')
  expect(html).toMatch(/31\.2\d* ◆/)
  expect(html.match(/<rect[^>]*width="8"/g)).toHaveLength(2)
  expect(html.match(/<circle/g)).toHaveLength(2)
})

test('a report says of a win that its answers loop, and gives accuracies in percent', async () => {
  const loops = (value: number) => ({ name: 'looping answers', dataset: 'prose', value, unit: 'share' })
  const dense = run('dense Q4_0', 'dense', 80, 40, 'Q4_0', [{ name: 'accuracy', dataset: 'arc', value: 0.456, unit: 'share' }])
  const runs = [run('dense', 'dense', 200, 30, undefined, [loops(0)]), dense, run('2SSP', '2ssp', 80, 30, 'Q8_0', [loops(0.5)])]
  const html = toHtml('Report', await worthSection({ baseline: null, runs }))
  expect(html).toContain('better, but its answers loop')
  expect(html).toContain('>45.6 % ◆<')
})

test('runs without a weight type have no such section', async () => {
  expect(await worthSection({ baseline: null, runs: [run('dense', 'dense', 80, 30), run('2SSP 25 %', '2ssp', 60, 40)] })).toEqual([])
})
