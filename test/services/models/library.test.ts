import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { oneRun, openedWorkbench, runEnded } from '../opened.ts'

test('a removed model keeps its name for its runs: another gets a name of its own, and the same one its old name', async () => {
  await using workbench = await openedWorkbench()
  const { call, model } = workbench
  const copy = join(workbench.folder, 'copies', 'tiny')
  cpSync(model.path, copy, { recursive: true })
  await runEnded(workbench, (await oneRun(workbench)).id)
  await call('models.remove', { id: model.id })
  const other = await call('models.add', { path: copy })
  expect(other.name).toBe('copies/tiny')
  await expect(call('models.update', { id: other.id, name: 'tiny' })).rejects.toMatchObject({ code: 'conflict' })
  expect((await call('models.restore', { id: model.id })).name).toBe('tiny')
  await call('models.remove', { id: model.id })
  expect((await call('models.add', { path: model.path })).name).toBe('tiny')
  // Without runs, a name is free again, and undoing the removal takes another one.
  await call('models.remove', { id: other.id })
  const third = join(workbench.folder, 'more', 'tiny')
  cpSync(model.path, third, { recursive: true })
  const { id } = await call('models.add', { path: third, name: 'copies/tiny' })
  expect((await call('models.restore', { id: other.id })).name).toBe('copies/copies/tiny')
  await call('models.remove', { id })
})
