import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../eventually.ts'
import { type Opened, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

async function fiveRuns(workbench: Opened, options: Record<string, unknown> = {}): Promise<string[]> {
  await workbench.call('queue.pause', {})
  const ids: string[] = []
  for (let seed = 0; seed < 5; seed++) ids.push((await oneRun(workbench, options, seed)).id)
  return ids
}

const stopped = ({ call }: Pick<Opened, 'call'>) =>
  eventually(
    () => call('queue.get', {}),
    (state) => state.stopped !== null,
  )

const statusesOf = async ({ call }: Pick<Opened, 'call'>, ids: readonly string[]) =>
  Promise.all(ids.map(async (id) => (await call('runs.get', { id })).status))

test('a missing library fails two runs, stops the queue once, and all are resumed together', async () => {
  await using workbench = await openedWorkbench()
  const until = join(workbench.folder, 'library')
  const ids = await fiveRuns(workbench, { at: 2, does: 'miss a library', until })
  await workbench.call('queue.resume', {})
  const state = await stopped(workbench)
  expect(state).toMatchObject({
    paused: true,
    waiting: 3,
    stopped: { message: 'The library libx.so cannot be loaded.', runs: ids.slice(0, 2) },
  })
  expect(await statusesOf(workbench, ids)).toEqual(['failed', 'failed', 'queued', 'queued', 'queued'])

  writeFileSync(until, '')
  expect(await workbench.call('queue.resume', { retry: true })).toMatchObject({ paused: false, stopped: null })
  for (const id of ids) expect((await runEnded(workbench, id)).status).toBe('done')
})

test('a queue that was stopped is still stopped after a restart, and resumes without the failed runs if asked', async () => {
  const first = await openedWorkbench()
  const ids = await fiveRuns(first, { at: 1, does: 'miss a library', until: join(first.folder, 'library') })
  await first.call('queue.resume', {})
  await stopped(first)
  await using again = await first.reopened()
  expect((await again.call('queue.get', {})).stopped?.runs).toEqual(ids.slice(0, 2))
  writeFileSync(join(first.folder, 'library'), '')
  await again.call('queue.resume', {})
  for (const id of ids.slice(2)) expect((await runEnded(again, id)).status).toBe('done')
  expect(await statusesOf(again, ids.slice(0, 2))).toEqual(['failed', 'failed'])
})

test('runs that fail for reasons of their own do not stop the queue', async () => {
  await using workbench = await openedWorkbench()
  const ids = await fiveRuns(workbench, { at: 1, does: 'throw' })
  await workbench.call('queue.resume', {})
  for (const id of ids) expect((await runEnded(workbench, id)).status).toBe('failed')
  expect((await workbench.call('queue.get', {})).stopped).toBeNull()
})

test('runs whose model was removed stop the queue once and are resumed when the model is back', async () => {
  await using workbench = await openedWorkbench()
  const { call, model } = workbench
  const ids = await fiveRuns(workbench)
  await call('models.remove', { id: model.id })
  await call('queue.resume', {})
  const state = await stopped(workbench)
  expect(state).toMatchObject({
    waiting: 3,
    stopped: { message: expect.stringMatching(/^This run cannot be computed: its model "tiny" was removed/) },
  })
  await expect(call('queue.resume', { retry: true })).rejects.toThrow('was removed from the library')
  await call('models.restore', { id: model.id })
  await call('queue.resume', { retry: true })
  for (const id of ids) expect((await runEnded(workbench, id)).status).toBe('done')
})
