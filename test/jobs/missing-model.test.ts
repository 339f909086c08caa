import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Opened, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

/** A waiting run of a removed model, before a run of an existing one. */
async function waitingWithoutModel(workbench: Opened) {
  await workbench.call('queue.pause', {})
  const copy = join(workbench.folder, 'given', 'other')
  cpSync(workbench.model.path, copy, { recursive: true })
  const other = await workbench.call('models.add', { path: copy, name: 'other' })
  const gone = await oneRun({ call: workbench.call, model: other })
  const kept = await oneRun(workbench)
  await workbench.call('models.remove', { id: other.id })
  return { other, gone, kept }
}

test('a queue still has time estimates when the model of one run was removed, and that run says so', async () => {
  await using workbench = await openedWorkbench()
  const { gone, kept } = await waitingWithoutModel(workbench)
  await workbench.call('engine.selfTest', {})
  const estimates = await workbench.call('queue.estimates', {})
  expect(estimates.find(({ run }) => run === gone.id)).toMatchObject({ problem: expect.stringMatching(/its model "other" was removed/) })
  expect(estimates.find(({ run }) => run === kept.id)).toMatchObject({ seconds: { likely: expect.any(Number) } })
})

test('a run whose model was removed is not computed, whichever way it comes to its turn', async () => {
  await using workbench = await openedWorkbench()
  const { other, gone, kept } = await waitingWithoutModel(workbench)
  await workbench.call('queue.resume', {})
  const failed = await runEnded(workbench, gone.id)
  expect(failed).toMatchObject({ status: 'failed', startedAt: null, problem: { code: 'not-found' } })
  expect(failed.problem?.message).toMatch(/its model "other" was removed from the library\. Add the model again/)
  expect((await runEnded(workbench, kept.id)).status).toBe('done')
  for (const action of ['runs.resume', 'runs.retry'] as const)
    await expect(workbench.call(action, { ids: [gone.id] })).rejects.toThrow('was removed from the library')
  await workbench.call('models.restore', { id: other.id })
  await workbench.call('runs.resume', { ids: [gone.id] })
  expect((await runEnded(workbench, gone.id)).status).toBe('done')
})

test('a failed retry states its own environment', async () => {
  await using before = await openedWorkbench()
  const { id } = await runEnded(before, (await oneRun(before)).id)
  expect((await before.call('runs.get', { id })).environment?.backend).toBe('fake')
  await before.close()
  const silent = 'setInterval(() => {}, 1000)'
  const foreign = `process.send({ type: "ready", protocol: 99, version: "", node: "" }); ${silent}`
  await using after = await openedWorkbench({ folder: before.folder, computeCommand: [process.execPath, '-e', foreign] })
  await after.call('runs.retry', { ids: [id] })
  const retried = await runEnded(after, id)
  expect(['failed', 'interrupted']).toContain(retried.status)
  expect(retried.environment).toMatchObject({ backend: null, device: expect.any(String) })
})
