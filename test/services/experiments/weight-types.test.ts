import { expect, test } from 'vitest'
import { gridOfRun } from '#services/experiments/grid.ts'
import { openedWorkbench, smallGrid } from '../opened.ts'

test('a grid of weight types has every pruned run and the dense model in each of them, and one baseline', async () => {
  await using workbench = await openedWorkbench()
  const grid = { ...smallGrid(workbench), weights: ['computed' as const, 'Q4_K_M' as const] }
  const { runs } = await workbench.call('experiments.create', { name: 'Types', grid, start: 'draft' })
  const titles = runs.map(({ name, baseline }) => `${name}${baseline ? ' (baseline)' : ''}`)
  expect(titles).toEqual([
    'dense (baseline)',
    'dense, Q4_K_M',
    expect.stringMatching(/^2SSP 25 %/),
    expect.stringMatching(/^2SSP 25 %.*, Q4_K_M$/),
    expect.stringMatching(/^ShortGPT 25 %/),
    expect.stringMatching(/^ShortGPT 25 %.*, Q4_K_M$/),
  ])
  expect(runs[1]?.parameters).toMatchObject({ weights: 'Q4_K_M' })
  const { request } = await workbench.call('runs.get', { id: runs[3]?.id as string })
  expect(gridOfRun(workbench.model.id, request).weights).toEqual(['Q4_K_M'])
})
