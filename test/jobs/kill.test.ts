import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RunDetail } from '#contract/runs/runs.ts'
import { connect } from '#db/database.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { fakeCompute, type Opened, oneRun, openedWorkbench, outcomesOf, runEnded } from '../services/opened.ts'
import { expectIntact, forgetSteps, printed, processesOf, seeded } from './kill-checks.ts'

/** Something to kill, and a run of it. `npm run kills` is the long version, with `kills` of each kind. */
interface Subject {
  command: readonly [string, ...string[]]
  modelPath?: string
  kills: number
  create(workbench: Opened): Promise<{ id: string }>
}

const windows = (name: string, count: number) => ({
  source: join(import.meta.dirname, '..', 'fixtures', 'reference', `${name}-windows.json`),
  sequenceLength: 256,
  windows: count,
})

const subjects: Record<string, () => Promise<Subject>> = {
  'without an engine': async () => ({
    command: fakeCompute,
    kills: 5,
    create: (workbench) => oneRun(workbench, { rounds: 25, stepMilliseconds: 15, stepBytes: 300_000 }, 11),
  }),
  'of 2SSP': () => engineSubject('2ssp', 0.5),
  'of SliceGPT, whose plan has tensors': () => engineSubject('slicegpt', 0.25),
  'that compares others with the dense model': async () => ({ ...(await engineSubject('shortgpt', 0.4)), create: compareShallower }),
}

/** A run that compares two others, which are made first if they do not exist yet. */
async function compareShallower(workbench: Opened): Promise<{ id: string }> {
  const { call, model } = workbench
  const { rows } = await call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: 'shortgpt' }] })
  const request = {
    method: 'shortgpt',
    options: {},
    seed: 0,
    calibration: windows('calibration', 2),
    measures: [],
    backend: 'auto' as const,
  }
  const runs = rows.map(({ id }) => id).reverse()
  for (const sparsity of [0.2, 0.4].slice(runs.length)) {
    const { id } = await call('runs.create', { model: model.id, request: { ...request, amount: { sparsity } } })
    expect((await runEnded(workbench, id)).problem).toBeNull()
    runs.push(id)
  }
  return call('runs.inspect', { inspect: { kind: 'divergence', runs, data: windows('test', 24) } })
}

/** What a run found: its plan and decisions, or every token that it compared. */
async function foundBy({ call }: Opened, { id, plan, decisions, inspected }: RunDetail) {
  const pages = inspected?.kind === 'divergence' ? inspected.divergence.pages : []
  return { plan, decisions, inspected, tokens: await Promise.all(pages.map((_, page) => call('runs.tokens', { id, page }))) }
}

async function engineSubject(method: string, sparsity: number): Promise<Subject> {
  return {
    command: defaultComputeCommand(),
    modelPath: await referenceModel('stories260k'),
    kills: 2,
    create: ({ call, model }) =>
      call('runs.create', {
        model: model.id,
        request: {
          method,
          amount: { sparsity },
          options: {},
          seed: 0,
          calibration: windows('calibration', 16),
          measures: [{ kind: 'perplexity', data: windows('test', 16), name: 'test' }],
          backend: 'auto',
        },
      }),
  }
}

/** A history with an undisturbed run, and what that run found. */
interface Undisturbed extends Subject {
  folder: string
  open(): Promise<Opened>
  found: unknown
  outcomes: unknown
  /** Its duration: kills come at random moments within it, however busy the machine is. */
  milliseconds: number
}

async function runUndisturbed(subject: Subject): Promise<Undisturbed> {
  const { command, modelPath, create } = subject
  const options = { computeCommand: command, ...(modelPath ? { modelPath } : {}) }
  const workbench = await openedWorkbench(options)
  const { folder } = workbench
  const { id } = await create(workbench)
  const begun = performance.now()
  const run = await runEnded(workbench, id)
  const milliseconds = performance.now() - begun
  expect(run.status).toBe('done')
  const [found, outcomes] = [await foundBy(workbench, run), outcomesOf(run)]
  await workbench.close()
  return { ...subject, folder, open: () => openedWorkbench({ ...options, folder }), found, outcomes, milliseconds }
}

async function expectUndisturbed(workbench: Opened, run: RunDetail, { found, outcomes }: Undisturbed): Promise<void> {
  expect(run.problem).toBeNull()
  expect(run.status).toBe('done')
  expect(await foundBy(workbench, run)).toEqual(found)
  expect(outcomesOf(run)).toEqual(outcomes)
  expectIntact(workbench.folder)
}

/** Kills the compute process as soon as there is one, or at a random moment; returns the state that the run was left in. */
async function killCompute(workbench: Opened, id: string, { command, milliseconds }: Undisturbed, share: number): Promise<string> {
  const word = command.at(-1) as string
  // A run is claimed before its process is started.
  if (share === 0) await eventually(() => processesOf(process.pid, word).length > 0, 'a compute process')
  else await pause(share * milliseconds)
  const killed = processesOf(process.pid, word)
  for (const pid of killed) process.kill(pid, 'SIGKILL')
  await eventually(() => !processesOf(process.pid, word).some((pid) => killed.includes(pid)), 'the end of the killed processes')
  // A finished run leaves its process idle; the next run must not get that process before its death is noticed.
  if (killed.length > 0) await eventually(async () => !(await isUp(workbench)), 'the notice of their end')
  return (await runEnded(workbench, id)).status
}

async function isUp({ call }: Opened): Promise<boolean> {
  const { status } = (await call('queue.get', {})).devices[0] ?? {}
  return status !== 'off' && status !== 'broken'
}

function statusIn(folder: string, id: string): unknown {
  const db = connect(join(folder, 'history.sqlite'))
  try {
    return db.prepare('SELECT status FROM runs WHERE id = ?').pluck().get(id)
  } finally {
    db.close()
  }
}

/**
 * Starts a main process and kills it once the run has started, or at a random moment after the process started or was ready; returns the
 * state that the run was left in.
 */
async function killMain(id: string, { folder, command, milliseconds }: Undisturbed, share: number, isUp: boolean): Promise<unknown> {
  const main = spawn(process.execPath, [join(import.meta.dirname, 'main-to-kill.ts'), folder, ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((resolve) => main.on('close', resolve))
  if (isUp) await printed(main, 'up')
  if (share === 0) await eventually(() => statusIn(folder, id) !== 'queued', 'a run that has begun')
  else await pause(share * milliseconds)
  main.kill('SIGKILL')
  await ended
  expectIntact(folder)
  return statusIn(folder, id)
}

/** When to kill, as shares of an undisturbed run's duration: first as soon as the run has started, then at random. */
function sharesOf(kills: number, seed: number): number[] {
  const random = seeded(seed)
  return Array.from({ length: kills }, (_, kill) => (kill === 0 ? 0 : random()))
}

describe.skipIf(process.platform !== 'linux').each(Object.keys(subjects))('a run %s', (name) => {
  let undisturbed: Undisturbed
  beforeAll(async () => {
    undisturbed = await runUndisturbed(await (subjects[name] as () => Promise<Subject>)())
  })
  afterAll(() => rm(undisturbed.folder, { recursive: true, force: true }))

  test('whose compute process is killed at random moments ends with what an undisturbed one found', async () => {
    forgetSteps(undisturbed.folder)
    const workbench = await undisturbed.open()
    await workbench.call('settings.update', { resumeRuns: false })
    const { id } = await undisturbed.create(workbench)
    let interruptions = 0
    for (const share of sharesOf(undisturbed.kills, 1)) {
      const status = await killCompute(workbench, id, undisturbed, share)
      if (status === 'interrupted') interruptions++
      else expect(status).toBe('done')
      if ((await workbench.call('queue.get', {})).devices[0]?.status === 'broken') await workbench.call('queue.resume', {})
      await workbench.call(status === 'done' ? 'runs.retry' : 'runs.resume', { ids: [id] })
    }
    await expectUndisturbed(workbench, await runEnded(workbench, id), undisturbed)
    expect(interruptions).toBeGreaterThan(0)
    await workbench.call('settings.update', { resumeRuns: true })
    await workbench.close()
  })

  test('whose main process is killed at random moments ends with what an undisturbed one found', async () => {
    forgetSteps(undisturbed.folder)
    const before = await undisturbed.open()
    await before.call('queue.pause', {})
    const { id } = await undisturbed.create(before)
    await before.close()
    let interruptions = 0
    for (const [kill, share] of sharesOf(undisturbed.kills, 2).entries()) {
      if ((await killMain(id, undisturbed, share, kill !== 2)) === 'running') interruptions++
    }
    const workbench = await undisturbed.open()
    // A run during which the program died once is resumed; after two deaths it waits for the user.
    const found = await workbench.call('runs.get', { id })
    expect(['queued', 'running', 'interrupted', 'done']).toContain(found.status)
    if (found.status === 'interrupted') await workbench.call('runs.resume', { ids: [id] })
    await expectUndisturbed(workbench, await runEnded(workbench, id), undisturbed)
    expect(interruptions).toBeGreaterThan(0)
    await eventually(() => processesOf(null, undisturbed.folder).length === 0, 'no main process left over')
    await workbench.close()
  })
})
