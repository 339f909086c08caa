import { expect, test } from 'vitest'
import { eventually } from '../eventually.ts'
import { fakeCompute, heldRun, type Opened, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'
import { processesOf } from './kill-checks.ts'

const runOf = ({ call }: Opened, id: string) => call('runs.get', { id })

/** Kills the process of a run that has finished more steps than given, and waits for the next attempt. */
async function killAfter(workbench: Opened, id: string, steps: number): Promise<void> {
  const { attempts } = await eventually(
    () => runOf(workbench, id),
    ({ stepsDone, status }) => stepsDone > steps && status === 'running',
  )
  for (const process of processesOf(globalThis.process.pid, fakeCompute[1])) globalThis.process.kill(process, 'SIGKILL')
  await eventually(
    () => runOf(workbench, id),
    (run) => run.attempts > attempts && run.status === 'running',
  )
}

test.skipIf(process.platform !== 'linux')(
  'a run whose compute process died is resumed with the reason, before those that wait',
  async () => {
    await using workbench = await openedWorkbench()
    const { options, letGo } = heldRun(workbench)
    const { id } = await oneRun(workbench, options)
    const waiting = await oneRun(workbench)
    await killAfter(workbench, id, 2)
    const reason = 'The compute process ended unexpectedly, by SIGKILL. The run was resumed automatically.'
    expect(await runOf(workbench, id)).toMatchObject({ attempts: 2, problem: { message: reason } })
    expect((await runOf(workbench, waiting.id)).status).toBe('queued')
    letGo()
    expect(await runEnded(workbench, id)).toMatchObject({ status: 'done', attempts: 2, problem: null })
    expect((await runEnded(workbench, waiting.id)).status).toBe('done')
  },
)

test.skipIf(process.platform !== 'linux')('a run that finishes a step between its crashes is resumed each time', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench, { rounds: 5000, stepMilliseconds: 20 })
  for (let crash = 0; crash < 4; crash++) await killAfter(workbench, id, (await runOf(workbench, id)).stepsDone + 1)
  await workbench.call('runs.cancel', { ids: [id] })
  expect(await runOf(workbench, id)).toMatchObject({ status: 'cancelled', attempts: 5 })
})

test.each(['abort', 'exit'])('a run that crashes twice without progress (%s) waits, and others are computed', async (does) => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench, { at: 1, does })
  const other = await oneRun(workbench)
  const run = await runEnded(workbench, id)
  expect(run).toMatchObject({ status: 'interrupted', attempts: 2 })
  expect(run.problem?.message).toMatch(/^The compute process ended unexpectedly, .*\.$/)
  expect(run.problem?.message).not.toContain('resumed')
  expect((await runEnded(workbench, other.id)).status).toBe('done')
})

test('with the setting off, or without memory, a run whose compute process died waits at once', async () => {
  await using workbench = await openedWorkbench()
  const lacking = await oneRun(workbench, { at: 1, does: 'out of memory' })
  expect(await runEnded(workbench, lacking.id)).toMatchObject({ status: 'failed', attempts: 1 })
  await workbench.call('settings.update', { resumeRuns: false })
  const { id } = await oneRun(workbench, { at: 1, does: 'abort' })
  expect(await runEnded(workbench, id)).toMatchObject({ status: 'interrupted', attempts: 1 })
})
