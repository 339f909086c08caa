import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
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

test('rivals are of the dense model and smaller ones alone, and the preview counts and names every run', async () => {
  await using workbench = await openedWorkbench()
  const path = join(workbench.folder, 'tinier')
  await mkdir(path)
  await writeFile(join(path, 'config.json'), '{}')
  const { id: sibling } = await workbench.call('models.add', { path, name: 'tinier' })
  const types = { weights: ['Q8_0' as const], rivals: ['Q8_0' as const, 'Q2_K' as const] }
  const grid = { ...smallGrid(workbench), ...types, siblings: [sibling] }
  const { runs } = await workbench.call('experiments.create', { name: 'Rivals', grid, start: 'draft' })
  const namesOf = (model: string) => runs.filter((run) => run.model.id === model).map(({ name }) => name)
  const dense = namesOf(workbench.model.id).filter((name) => name.startsWith('dense'))
  expect([dense, namesOf(sibling)]).toEqual(Array(2).fill(['dense', 'dense, Q8_0', 'dense, Q2_K']))
  const preview = await workbench.call('experiments.preview', { grid })
  expect(preview.runs).toBe(runs.length)
  const namedRuns = runs.filter(({ baseline }) => !baseline).map(({ name }) => name)
  expect(preview.combinations.map(({ name }) => name)).toEqual(namedRuns)
})
