import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunDetail } from '#contract/runs/runs.ts'
import { connect } from '#db/database.ts'
import { defaultComputeCommand } from '#jobs/compute-command.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { eventually, fakeCompute, type Opened, oneRun, openedWorkbench, outcomesOf, runEnded } from '../services/opened.ts'
import { expectIntact, pause, printed, processesOf, seeded } from './watching.ts'

/** Something to kill: how a workbench for it is opened, and a run that takes `milliseconds`. */
interface Subject {
  command: readonly [string, ...string[]]
  modelPath?: string
  milliseconds: number
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
    milliseconds: 400,
    kills: 10,
    create: (workbench) => oneRun(workbench, { rounds: 25, stepMilliseconds: 15, stepBytes: 300_000 }, 11),
  }),
  'of 2SSP': () => engineSubject('2ssp', 0.5, 8),
  'of SliceGPT, whose plan has tensors': () => engineSubject('slicegpt', 0.25, 10),
  'that compares others with the dense model': async () => ({ ...(await engineSubject('shortgpt', 0.4, 6)), create: compareShallower }),
}

/** A run that looks at two others, which are made first where they are not there yet. */
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
  return call('runs.inspect', { inspect: { kind: 'divergence', runs, data: windows('test', 64) } })
}

/** What a run found: its plan and decisions, or every token that it looked at. */
async function foundBy({ call }: Opened, { id, plan, decisions, inspected }: RunDetail) {
  const pages = inspected?.kind === 'divergence' ? inspected.divergence.pages : []
  return { plan, decisions, inspected, tokens: await Promise.all(pages.map((_, page) => call('runs.tokens', { id, page }))) }
}

async function engineSubject(method: string, sparsity: number, kills: number): Promise<Subject> {
  return {
    command: defaultComputeCommand(),
    modelPath: await referenceModel('stories260k'),
    milliseconds: 1500,
    kills,
    create: ({ call, model }) =>
      call('runs.create', {
        model: model.id,
        request: {
          method,
          amount: { sparsity },
          options: {},
          seed: 0,
          calibration: windows('calibration', 32),
          measures: [{ kind: 'perplexity', data: windows('test', 32), name: 'test' }],
          backend: 'auto',
        },
      }),
  }
}

test.skipIf(process.platform !== 'linux').each(Object.keys(subjects))(
  `a run %s whose compute process is killed at random moments ends with what an undisturbed one found`,
  async (name) => {
    const { command, modelPath, milliseconds, kills, create } = await (subjects[name] as () => Promise<Subject>)()
    const random = seeded(1)
    await using workbench = await openedWorkbench({ computeCommand: command, ...(modelPath ? { modelPath } : {}) })
    const expected = await runEnded(workbench, (await create(workbench)).id)
    expect(expected.status).toBe('done')
    const { id } = await create(workbench)
    let interruptions = 0
    for (let kill = 0; kill < kills; kill++) {
      await pause(random() * milliseconds)
      for (const pid of processesOf(process.pid, command.at(-1) as string)) process.kill(pid, 'SIGKILL')
      await pause(100)
      const { status } = await runEnded(workbench, id)
      if (status === 'interrupted') interruptions++
      else expect(status).toBe('done')
      if ((await workbench.call('queue.get', {})).devices[0]?.status === 'broken') await workbench.call('queue.resume', {})
      await workbench.call(status === 'done' ? 'runs.retry' : 'runs.resume', { ids: [id] })
    }
    const run = await runEnded(workbench, id)
    expect(run.problem).toBeNull()
    expect(run.status).toBe('done')
    expect(await foundBy(workbench, run)).toEqual(await foundBy(workbench, expected))
    expect(outcomesOf(run)).toEqual(outcomesOf(expected))
    expect(interruptions).toBeGreaterThan(kills / 4)
    expectIntact(workbench.folder)
  },
  240_000,
)

test.skipIf(process.platform !== 'linux').each(Object.keys(subjects))(
  `a run %s whose main process is killed at random moments ends with what an undisturbed one found`,
  async (name) => {
    const { command, modelPath, milliseconds, kills, create } = await (subjects[name] as () => Promise<Subject>)()
    const random = seeded(2)
    let workbench = await openedWorkbench({ computeCommand: command, ...(modelPath ? { modelPath } : {}) })
    const { folder } = workbench
    const expected = await runEnded(workbench, (await create(workbench)).id)
    await workbench.call('queue.pause', {})
    const { id } = await create(workbench)
    await workbench.close()
    let interruptions = 0
    for (let kill = 0; kill < kills; kill++) {
      const main = spawn(process.execPath, [join(import.meta.dirname, 'main-to-kill.ts'), folder, ...command], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      if (random() < 0.85) await printed(main, 'up')
      await pause(random() * milliseconds)
      main.kill('SIGKILL')
      await new Promise((resolve) => main.on('close', resolve))
      expectIntact(folder)
      const db = connect(join(folder, 'history.sqlite'))
      if (db.prepare('SELECT status FROM runs WHERE id = ?').pluck().get(id) === 'running') interruptions++
      db.close()
    }
    workbench = await openedWorkbench({ folder, computeCommand: command })
    const found = await workbench.call('runs.get', { id })
    expect(found.problem).toBeNull()
    expect(['interrupted', 'done']).toContain(found.status)
    if (found.status === 'interrupted') await workbench.call('runs.resume', { ids: [id] })
    const run = await runEnded(workbench, id)
    expect(run.problem).toBeNull()
    expect(run.status).toBe('done')
    expect(await foundBy(workbench, run)).toEqual(await foundBy(workbench, expected))
    expect(interruptions).toBeGreaterThan(kills / 4)
    await eventually(() => processesOf(null, folder).length === 0, 'no main process left over')
    expectIntact(folder)
    await workbench[Symbol.asyncDispose]()
  },
  300_000,
)
