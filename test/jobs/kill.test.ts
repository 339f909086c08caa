import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connect } from '#db/database.ts'
import { eventually, oneRun, openedWorkbench, runEnded, type Opened } from '../services/opened.ts'

const kills = 20
const options = { rounds: 25, stepMilliseconds: 15, stepBytes: 300_000 }

/** Numbers from 0 to 1 that are the same in every run of the tests. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** What must hold whatever died: nothing runs, the file is whole, and nothing half written has its final name. */
function expectIntact(folder: string): void {
  const db = connect(join(folder, 'history.sqlite'))
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  db.close()
  for (const entry of readdirSync(join(folder, 'values'), { withFileTypes: true, recursive: true })) {
    if (entry.name.endsWith('.json')) expect(readFileSync(join(entry.parentPath, entry.name)).length).toBe(Number(entry.name.split('-')[0]))
  }
}

async function undisturbed(workbench: Opened) {
  const { id } = await oneRun(workbench, options, 11)
  return runEnded(workbench, id)
}

test(`a run whose compute process is killed at ${kills} random moments ends with the plan of an undisturbed one`, async () => {
  const random = seeded(1)
  await using workbench = await openedWorkbench()
  const expected = await undisturbed(workbench)
  const { id } = await oneRun(workbench, { ...options, rounds: 25 }, 11)
  let interruptions = 0
  for (let kill = 0; kill < kills; kill++) {
    await new Promise((resolve) => setTimeout(resolve, 20 + random() * 350))
    for (const pid of childrenOf(process.pid, 'fake-compute')) process.kill(pid, 'SIGKILL')
    const { status } = await eventually(async () => {
      const run = await workbench.call('runs.get', { id })
      return run.status !== 'queued' && (run.status !== 'running' || undefined) && run
    }, 'the death to be noticed', 5000).catch(() => ({ status: 'running' }))
    if (status === 'running') continue
    if (status === 'done') await workbench.call('runs.retry', { ids: [id] })
    else {
      expect(status).toBe('interrupted')
      interruptions++
      if ((await workbench.call('queue.get', {})).devices[0]?.status === 'broken') await workbench.call('queue.resume', {})
      await workbench.call('runs.resume', { ids: [id] })
    }
  }
  expect(interruptions).toBeGreaterThan(kills / 4)
  const run = await runEnded(workbench, id)
  expect(run.plan).toEqual(expected.plan)
  expect(run.decisions).toEqual(expected.decisions)
  expectIntact(workbench.folder)
}, 120_000)

test(`a run whose main process is killed at ${kills} random moments ends with the plan of an undisturbed one`, async () => {
  const random = seeded(2)
  let workbench = await openedWorkbench()
  const { folder } = workbench
  const expected = await undisturbed(workbench)
  await workbench.call('queue.pause', {})
  const { id } = await oneRun(workbench, options, 11)
  await workbench.call('queue.resume', {})
  await workbench.close()

  let interruptions = 0
  for (let kill = 0; kill < kills; kill++) {
    const main = spawn(process.execPath, [join(import.meta.dirname, 'main-to-kill.ts'), folder], { stdio: ['ignore', 'pipe', 'inherit'] })
    if (random() < 0.8) await printed(main, 'up')
    await new Promise((resolve) => setTimeout(resolve, random() * 250))
    main.kill('SIGKILL')
    await new Promise((resolve) => main.on('close', resolve))
    expectIntact(folder)
    const db = connect(join(folder, 'history.sqlite'))
    if (db.prepare('SELECT status FROM runs WHERE id = ?').pluck().get(id) === 'running') interruptions++
    db.close()
  }
  workbench = await openedWorkbench({ folder })
  const found = await workbench.call('runs.get', { id })
  expect(['interrupted', 'done']).toContain(found.status)
  if (found.status === 'interrupted') await workbench.call('runs.resume', { ids: [id] })
  const run = await runEnded(workbench, id)
  expect(run.plan).toEqual(expected.plan)
  expect(run.decisions).toEqual(expected.decisions)
  expect(interruptions).toBeGreaterThan(0)
  await eventually(() => childrenOf(null, folder).length === 0, 'no orphaned compute process')
  expectIntact(folder)
  await workbench[Symbol.asyncDispose]()
}, 180_000)

function printed(child: ChildProcess, word: string): Promise<void> {
  return new Promise((resolve) => {
    child.stdout?.on('data', (chunk) => String(chunk).includes(word) && resolve())
    child.on('close', () => resolve())
  })
}

/** Process numbers by parent and by a word in their command line. */
function childrenOf(parent: number | null, word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        const [, rest] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
        return command.includes(word) && (parent === null || Number(rest?.split(' ')[1]) === parent)
      } catch {
        return false
      }
    })
    .map(Number)
}
