import { expect, test } from 'vitest'
import { openedWorkbench, smallGrid } from '../opened.ts'

test('a run of a share of experts is named by it, and has no sparsity until its result states one', async () => {
  await using workbench = await openedWorkbench()
  const grid = { ...smallGrid(workbench), methods: [{ method: 'reap', options: {} }], amounts: [{ experts: 0.25 }, { sparsity: 0.25 }] }
  const { runs } = await workbench.call('experiments.create', { name: 'Experts', grid, start: 'draft' })
  const [, ofExperts, ofAll] = runs
  expect(ofExperts).toMatchObject({ name: 'REAP 25 % of experts', nominal: null, parameters: { 'amount.experts': 0.25 } })
  expect(ofAll).toMatchObject({ name: 'REAP 25 %', nominal: 0.25 })
})
