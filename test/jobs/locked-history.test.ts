import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connect, type Database } from '#db/database.ts'
import { eventually } from '../eventually.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { heldRun, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

/** Locks the history as another program does that writes for a long time. */
function lock(folder: string): Database {
  const other = connect(join(folder, 'history.sqlite'))
  other.exec('BEGIN IMMEDIATE')
  return other
}

function unlock(other: Database): void {
  other.exec('COMMIT')
  other.close()
}

test('a run, a talk and a change wait for a locked history, and the workbench answers meanwhile', async () => {
  await using workbench = await openedWorkbench({ onObstacle: () => {} })
  const { call, folder, model } = workbench
  const { options, letGo } = heldRun(workbench)
  const { id } = await oneRun(workbench, options)
  await eventually(async () => (await call('runs.get', { id })).stepsDone >= 3, 'three steps')
  const talk = await call('playground.start', { columns: [{ model: model.id }], prompts: [{ text: 'Who' }], settings: { maxTokens: 20 } })

  const other = lock(folder)
  letGo()
  const state = await eventually(
    () => call('queue.get', {}),
    ({ obstacle }) => obstacle?.kind === 'locked',
  )
  expect(state.obstacle?.message).toMatch(/history\.sqlite is locked: another program is writing to it\. Espalier continues by itself/)
  const change = call('settings.update', { theme: 'dark' })
  const answered = []
  for (const begun = performance.now(); performance.now() - begun < 1500; ) {
    const asked = performance.now()
    expect((await call('runs.get', { id })).status).toBe('running')
    answered.push(performance.now() - asked)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  // None of them waited for the lock, which blocks a process for a second the first time.
  expect(answered.length).toBeGreaterThan(5)
  unlock(other)

  expect((await change).theme).toBe('dark')
  expect(await runEnded(workbench, id)).toMatchObject({ status: 'done', stepsDone: 8 })
  const { answers } = await eventually(
    () => call('transcripts.get', { id: talk.id }),
    ({ status }) => status === 'done',
  )
  expect(answers.map(({ end }) => end)).toEqual(['length'])
  expect((await call('queue.get', {})).obstacle).toBeNull()
})

test('a server starts although the history is locked, and its runs begin when it is free', async () => {
  const first = await openedWorkbench({ onObstacle: () => {} })
  await first.call('queue.pause', {})
  const { id } = await oneRun(first)
  await first.close()
  const other = lock(first.folder)
  await using again = await openedWorkbench({ folder: first.folder, onObstacle: () => {} })
  expect((await again.call('queue.get', {})).obstacle?.kind).toBe('locked')
  unlock(other)
  await again.call('queue.resume', {})
  expect((await runEnded(again, id)).status).toBe('done')
})

test('a command says that it waits for a locked history, and then does its work', async () => {
  await using workbench = await openedWorkbench()
  const path = await referenceModel('stories260k')
  await workbench.close()
  const other = lock(workbench.folder)
  const main = join(import.meta.dirname, '..', '..', 'src-main', 'cli', 'main.ts')
  const child = spawn(process.execPath, [main, 'models', 'add', path, '--data', workbench.folder], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk) => (said += chunk))
  const ended = new Promise((resolve) => child.once('close', resolve))
  await eventually(() => /is locked: another program is writing to it/.test(said), 'what the command waits for')
  expect(child.exitCode).toBeNull()
  unlock(other)
  expect([await ended, said]).toEqual([0, expect.stringContaining('can be written again')])
  await using again = await openedWorkbench({ folder: workbench.folder })
  expect((await again.call('models.list', {})).map((model) => model.path)).toContain(path)
})
