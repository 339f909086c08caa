import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../eventually.ts'
import { fakeCompute, heldRun, type Opened, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

async function underWay(workbench: Opened): Promise<string> {
  const { id } = await oneRun(workbench, heldRun(workbench).options)
  await eventually(async () => (await workbench.call('runs.get', { id })).stepsDone > 1, 'some steps')
  return id
}

const takenUp = async ({ call }: Opened) => (await call('queue.get', {})).takenUp

/** Opens the folder in another process and kills it while it computes. */
async function killWhileRunning(folder: string): Promise<void> {
  const main = spawn(process.execPath, [join(import.meta.dirname, 'main-to-watch.ts'), folder, ...fakeCompute], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise<void>((resolve) => main.stdout.on('data', (chunk) => String(chunk).includes('running') && resolve()))
  main.kill('SIGKILL')
  await new Promise((resolve) => main.on('close', resolve))
}

test('a run that was interrupted by closing the program is resumed at the next start, which says so once', async () => {
  const closed = await openedWorkbench()
  const id = await underWay(closed)
  const waiting = await oneRun(closed)
  await using workbench = await closed.reopened()
  heldRun(workbench).letGo()
  expect(await takenUp(workbench)).toMatchObject({ resumed: [{ id }], held: [] })
  expect((await workbench.call('queue.seen', {})).takenUp).toBeNull()
  expect(await takenUp(workbench)).toBeNull()
  const run = await runEnded(workbench, id)
  expect(run).toMatchObject({ status: 'done', attempts: 2 })
  expect(run.startedAt).toBeLessThan((await runEnded(workbench, waiting.id)).startedAt as number)
})

test('with the setting off it stays interrupted', async () => {
  const closed = await openedWorkbench()
  await closed.call('settings.update', { resumeRuns: false })
  const id = await underWay(closed)
  await using workbench = await closed.reopened()
  expect((await workbench.call('runs.get', { id })).status).toBe('interrupted')
  expect(await takenUp(workbench)).toBeNull()
  await workbench.call('settings.update', { resumeRuns: true })
  await using again = await workbench.reopened()
  expect((await again.call('runs.get', { id })).status).toBe('interrupted')
})

test('a run that a user cancelled or paused before closing is left alone', async () => {
  const closed = await openedWorkbench()
  const cancelled = await underWay(closed)
  await closed.call('runs.cancel', { ids: [cancelled] })
  const paused = await underWay(closed)
  await closed.call('runs.pause', { ids: [paused] })
  await using workbench = await closed.reopened()
  expect((await workbench.call('runs.get', { id: cancelled })).status).toBe('cancelled')
  expect((await workbench.call('runs.get', { id: paused })).status).toBe('paused')
  expect(await takenUp(workbench)).toBeNull()
})

test('a run that a command computed by itself is left to that command', async () => {
  const command = await openedWorkbench({ worksQueue: false })
  const { id } = await oneRun(command, heldRun(command).options)
  const over = command.runNow(id).catch(() => undefined)
  await eventually(async () => (await command.call('runs.get', { id })).stepsDone > 1, 'some steps')
  await command.close()
  await over
  await using workbench = await openedWorkbench({ folder: command.folder })
  expect((await workbench.call('runs.get', { id })).status).toBe('interrupted')
})

test('a run with which the program died twice stays interrupted with the reason until a user resumes it', async () => {
  const first = await openedWorkbench()
  const id = await underWay(first)
  await first.close()
  await killWhileRunning(first.folder)
  await killWhileRunning(first.folder)
  await using workbench = await openedWorkbench({ folder: first.folder })
  const run = await workbench.call('runs.get', { id })
  expect(run).toMatchObject({ status: 'interrupted', problem: { message: expect.stringContaining('Espalier ended 2 times') } })
  expect(await takenUp(workbench)).toMatchObject({ resumed: [], held: [{ id }] })
  await workbench.call('runs.resume', { ids: [id] })
  await using again = await workbench.reopened()
  expect(await takenUp(again)).toMatchObject({ resumed: [{ id }] })
})
