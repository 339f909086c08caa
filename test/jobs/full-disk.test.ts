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
import { processorDevice } from '#jobs/devices.ts'
import { RunLogs } from '#jobs/run-log.ts'
import { RunQueue } from '#jobs/run-queue.ts'
import { ThisMachine } from '#jobs/this-machine.ts'
import { insertRun } from '../db/rows.ts'
import { eventually } from '../eventually.ts'
import { fakeCompute, heldRun, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

test('a step that a full disk refuses fails the run with what to do, and the run resumes when there is space', async () => {
  let full = false
  const writeFile = (file: string, content: Buffer) => {
    if (full) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
    writeDurably(file, content)
  }
  await using workbench = await openedWorkbench({ writeFile })
  const { options: held, letGo } = heldRun(workbench)
  const options = { rounds: held.rounds, stepBytes: 300_000 }
  const expected = await runEnded(workbench, (await oneRun(workbench, options, 4)).id)
  const { id } = await oneRun(workbench, { ...held, stepBytes: 300_001 }, 4)
  await eventually(async () => (await workbench.call('runs.get', { id })).stepsDone >= 3, 'three steps')
  full = true
  letGo()
  const failed = await runEnded(workbench, id)
  expect(failed).toMatchObject({
    status: 'failed',
    problem: { code: 'disk', message: expect.stringContaining('Free some space'), advice: expect.stringContaining('Resume when') },
  })
  full = false
  await workbench.call('runs.resume', { ids: [id] })
  expect((await runEnded(workbench, id)).plan).toEqual(expected.plan)
})

test('a history file that cannot grow stays whole, and its run is not lost and resumes afterwards', async () => {
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
    changed: (numbers) => queue.tellRuns(numbers),
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
    worksQueue: true,
    resumesRuns: () => true,
  })
  const run = insertRun(history, { options: { rounds: 60, stepMilliseconds: 2, stepBytes: 60_000 }, status: 'draft' })
  const status = () => history.runs.find(run.id)?.status

  const pages = history.db.pragma('page_count', { simple: true }) as number
  history.db.pragma(`max_page_count = ${pages + 200}`)
  queue.act('enqueue', [run.id])
  // Even the record of the failure may not fit into the history; it is written as soon as there is space.
  await eventually(() => /ended: .*full/.test(logs.tail(run.id, 1000).text), 'the failure in the log')
  history.db.pragma('max_page_count = 1000000')
  await eventually(() => status() === 'failed', 'the failure in the history')
  expect(JSON.parse(history.runs.find(run.id)?.problem ?? '{}')).toMatchObject({ code: 'disk' })
  expect(integrityProblems(history.db, true)).toEqual([])
  const done = history.steps.count(run.id)
  expect(done).toBeGreaterThan(2)

  queue.act('resume', [run.id])
  await eventually(() => status() === 'done', 'the end of the run')
  expect(history.steps.count(run.id)).toBe(60)
  await queue.close()
  history.close()
  rmSync(folder, { recursive: true })
})
