import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { integrityProblems } from '#db/backups.ts'
import { openHistory } from '#db/history.ts'
import { writeDurably } from '#db/values.ts'
import { Clusters } from '#jobs/cluster/clusters.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { hermeticEnvironment } from '#jobs/compute/environment.ts'
import { RunLogs } from '#jobs/run-log.ts'
import { RunQueue } from '#jobs/run-queue.ts'
import { processorDevice, ThisMachine } from '#jobs/this-machine.ts'
import { readNote } from '#server/note.ts'
import { insertRun } from '../db/rows.ts'
import { eventually } from '../eventually.ts'
import { canMakeDisks, SmallDisk } from '../fixtures/small-disk.ts'
import { endProgram, programEntry, startProgram } from '../server/started.ts'
import { fakeCompute, heldRun, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

test('a step that a full disk refuses waits, the queue says why, and all goes on by itself when there is space', async () => {
  let full = false
  const writeFile = (file: string, content: Buffer) => {
    if (full) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
    writeDurably(file, content)
  }
  await using workbench = await openedWorkbench({ writeFile, onObstacle: () => {} })
  const { options: held, letGo } = heldRun(workbench)
  const options = { rounds: held.rounds, stepBytes: 300_000 }
  const expected = await runEnded(workbench, (await oneRun(workbench, options, 4)).id)
  const { id } = await oneRun(workbench, { ...held, stepBytes: 300_001 }, 4)
  await eventually(async () => (await workbench.call('runs.get', { id })).stepsDone >= 3, 'three steps')
  full = true
  letGo()
  const { obstacle } = await eventually(
    () => workbench.call('queue.get', {}),
    ({ obstacle }) => obstacle !== null,
  )
  expect(obstacle).toMatchObject({
    kind: 'full',
    message: expect.stringMatching(/^The disk of .* is full: .* MB are free, .* MB are needed\. Free some space; Espalier then continues/),
    neededBytes: expect.any(Number),
    freeBytes: expect.any(Number),
  })
  const waiting = await oneRun(workbench, options, 5)
  expect((await workbench.call('runs.get', { id })).status).toBe('running')
  full = false
  expect((await runEnded(workbench, id)).plan).toEqual(expected.plan)
  expect((await runEnded(workbench, waiting.id)).status).toBe('done')
  expect((await workbench.call('queue.get', {})).obstacle).toBeNull()
})

test('a history file that cannot grow stays whole, and its run waits and then ends as any other', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-test-'))
  const history = openHistory(folder)
  const owner = 'owner-of-test'
  history.owners.register(owner, Date.now())
  const host = new ComputeHost({
    command: fakeCompute,
    environment: hermeticEnvironment(process.env),
    tensorFolder: history.values.tensorFolder,
  })
  const fetchFile = () => Promise.reject(new Error('no network in this test'))
  const logs = new RunLogs(join(folder, 'logs'))
  const machine = new ThisMachine({
    history,
    logs,
    emit: () => {},
    owner,
    devices: [processorDevice()],
    hostFor: () => host,
    fetchFile,
    memoryLimit: () => null,
    resumesRuns: () => true,
    changed: (numbers) => queue.tellRuns(numbers),
    ended: (number) => queue.noteEnd(number),
    freed: () => queue.work(),
  })
  const unused = { profiles: () => [], programFor: (): ['none'] => ['none'], changed: () => {} }
  const clusters = new Clusters({ history, logs, emit: () => {}, ...unused })
  const queue: RunQueue = new RunQueue({
    history,
    emit: () => {},
    owner,
    machine,
    clusters,
    memory: { waits: [] },
    worksQueue: true,
    resumesRuns: () => true,
  })
  const run = insertRun(history, { options: { rounds: 60, stepMilliseconds: 2, stepBytes: 60_000 }, status: 'draft' })
  const status = () => history.runs.find(run.id)?.status

  const pages = history.db.pragma('page_count', { simple: true }) as number
  history.db.pragma(`max_page_count = ${pages + 200}`)
  queue.act('enqueue', [run.id])
  await eventually(() => history.writes.obstacle?.kind === 'full', 'the full disk')
  expect([status(), queue.state().obstacle?.kind]).toEqual(['running', 'full'])
  const done = history.steps.count(run.id)
  expect(done).toBeGreaterThan(2)
  history.db.pragma('max_page_count = 1000000')
  await eventually(() => status() === 'done', 'the end of the run')
  expect(history.writes.obstacle).toBeNull()
  expect(integrityProblems(history.db, true)).toEqual([])
  expect(history.steps.count(run.id)).toBe(60)
  await queue.close()
  history.close()
  rmSync(folder, { recursive: true })
})

/** Starts a server that has to wait, stops it and returns its exit code. */
async function endOfWaiting(folder: string): Promise<number | null> {
  const child = spawn(process.execPath, [programEntry, '--data', folder], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk) => (said += chunk))
  try {
    await eventually(() => said.includes('Espalier starts when'), 'its reason to wait')
    child.kill('SIGINT')
    await eventually(() => child.exitCode !== null, 'its end')
    return child.exitCode
  } finally {
    child.kill('SIGKILL')
  }
}

test.skipIf(!canMakeDisks).each(['SIGKILL', 'SIGTERM'] as const)(
  'a server that ended by %s starts on a full disk: it says what it waits for, and serves when there is space',
  async (signal) => {
    const folder = mkdtempSync(join(tmpdir(), 'espalier-test-'))
    using disk = new SmallDisk(folder, 24 * 2 ** 20)
    await endProgram(await startProgram(folder), signal)
    // SQLite makes an index of its log before it can read, which takes space.
    disk.fill()
    const child = spawn(process.execPath, [programEntry, '--data', folder], { stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
    try {
      await eventually(() => said !== '' || child.exitCode !== null, 'its reason to wait')
      expect([child.exitCode, said]).toEqual([null, expect.stringMatching(/full.*Espalier starts when it can be written\./)])
      // A second one is stopped while it waits.
      expect(await endOfWaiting(folder)).toBe(0)
      disk.empty()
      await eventually(() => /#token=\S+\n/.test(said), 'its address', 60_000)
      child.kill('SIGTERM')
      await eventually(() => child.exitCode !== null, 'its end')
      expect(child.exitCode).toBe(0)
    } finally {
      child.kill('SIGKILL')
    }
    const history = openHistory(folder)
    expect(integrityProblems(history.db, true)).toEqual([])
    history.close()
  },
)

test.skipIf(!canMakeDisks)('a server that finds space for its log only serves, and leaves its notes when there is space', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-test-'))
  using disk = new SmallDisk(folder, 24 * 2 ** 20)
  await endProgram(await startProgram(folder), 'SIGTERM')
  disk.fill(40 * 1024)
  const server = await startProgram(folder)
  expect(await readNote(folder)).toBeUndefined()
  expect(server.printed()).toContain('commands on this machine do not find this server')
  disk.empty()
  expect(await eventually(() => readNote(folder), 'the note')).toEqual({ address: server.address, token: server.token })
  expect(await endProgram(server, 'SIGTERM')).toBe(0)
})
