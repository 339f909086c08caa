import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { GridInput } from '#contract/experiments/experiments.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { espalierCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { processesOf } from '../jobs/kill-checks.ts'
import { data, measures, type OpenedOnSlurm, openOnSlurm, search } from './opened-on-slurm.ts'
import { outcome } from './outcome.ts'
import { hasSlurm } from './slurm-daemons.ts'

describe.skipIf(!hasSlurm())('a real Slurm of two nodes', () => {
  let opened: OpenedOnSlurm

  beforeAll(async () => {
    opened = await openOnSlurm()
    await opened.addCluster('test')
  })
  afterEach(() => opened.clear())
  afterAll(() => opened?.close())

  const queue = () => opened.workbench.call('queue.get', {})
  const jobs = (field: string) => opened.slurm.ask('squeue', '--noheader', '--array', `--format=${field}`).split('\n')
  /** Waits until the run has done some steps while its job still runs. */
  const caught = (id: string, steps: number) =>
    eventually(
      async () => {
        const run = await opened.get(id)
        return run.stepsDone >= steps && run.job?.state === 'running' && run
      },
      `${steps} steps of ${id}`,
      120_000,
    )

  test('the check finds commands, partitions, the folder and what computes on a node', async () => {
    const findings = await opened.workbench.call('clusters.check', { name: 'test' })
    expect(findings.map(({ what, works }) => [what, works])).toEqual([
      ['sbatch', true],
      ['squeue', true],
      ['scontrol', true],
      ['scancel', true],
      ['sacct', null],
      ['partitions', true],
      ['shared folder', true],
      ['a node', true],
    ])
    expect(findings.at(-1)?.found).toMatch(/ computes with (tensorflow.*|ggml-cpu) on /)
  })

  test('a grid of 12 runs and its baseline gives on both nodes what it gives here, though the controller is down for a minute and the workbench is closed', async () => {
    const { workbench, slurm } = opened
    const grid: GridInput = {
      models: [workbench.model.id],
      methods: [{ method: '2ssp' }, { method: 'shortgpt' }, { method: 'slicegpt' }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.4 }],
      seeds: [0, 1],
      calibration: data('calibration', 8),
      measures,
    }
    const { runs } = await workbench.call('experiments.create', { name: 'There', grid, executor: 'test' })
    expect(runs).toHaveLength(13)
    const ids = new Set(runs.map(({ id }) => id))
    await eventually(
      () =>
        workbench.events.some(
          (event) => event.name === 'run event' && ids.has(event.data.run) && event.data.recorded.event.type === 'progress',
        ),
      'progress',
      60_000,
    )
    await eventually(
      async () =>
        (await queue()).runs.some(({ status, job }) => status === 'running' && job?.state === 'running' && /^n[12]$/.test(job.node ?? '')),
      'the node of a run',
    )
    // Slurm gives a reason once its scheduler has looked at a job.
    await eventually(
      async () => (await queue()).runs.some(({ status, job }) => status === 'queued' && job?.state === 'waiting' && job.reason),
      'the reason why a job waits',
      60_000,
    )
    expect((await queue()).clusters).toMatchObject([{ name: 'test', problem: null }])
    expect(jobs('%j').some((name) => name.startsWith('espalier-'))).toBe(true)

    await slurm.stopController()
    const minute = sleep(61_000)
    const late = await opened.make('test', search(2))
    await opened.reopen()
    await eventually(async () => (await queue()).clusters[0]?.problem, 'word that the controller is down', 120_000)
    const { runs: ours } = await opened.workbench.call('experiments.create', { name: 'Here', grid })
    const here = await Promise.all(ours.map(({ id }) => opened.done(id)))
    await minute
    expect((await opened.get(late.id)).status).toBe('queued')
    await slurm.startController()

    const there = await Promise.all(runs.map(({ id }) => opened.done(id)))
    expect((await opened.done(late.id)).attempts).toBe(1)
    expect(there.map(({ attempts }) => attempts)).toEqual(Array(13).fill(1))
    expect(new Set(there.map(({ device }) => /n[12]/.exec(device ?? '')?.[0]))).toEqual(new Set(['n1', 'n2']))
    expect(there.map(outcome)).toEqual(here.map(outcome))
  })

  test('a job that is requeued and one whose processes are killed end in the plan of an undisturbed run', async () => {
    const requeued = async () => {
      const { id } = await opened.make('test', { seed: 3 })
      opened.slurm.ask('scontrol', 'requeue', (await caught(id, 2)).job?.id as string)
      return opened.done(id)
    }
    const killed = async () => {
      const { id } = await opened.make('test', { seed: 4 })
      await caught(id, 2)
      const victims = processesOf(null, `${id}/request.json`)
      expect(victims.length).toBeGreaterThan(0)
      for (const pid of victims) process.kill(pid, 'SIGKILL')
      return opened.done(id)
    }
    const there = await Promise.all([requeued(), killed()])
    expect(there.map(({ attempts }) => attempts)).toEqual([2, 2])
    const here = await Promise.all(
      [3, 4].map(async (seed) => {
        const { id } = await opened.make(null, { seed })
        return opened.done(id)
      }),
    )
    expect(there.map(outcome)).toEqual(here.map(outcome))
  })

  test('cancelling reaches the job and its processes', async () => {
    const { id } = await opened.make('test')
    const { job } = await caught(id, 1)
    await opened.workbench.call('runs.cancel', { ids: [id] })
    expect((await opened.get(id)).status).toBe('cancelled')
    await eventually(() => !jobs('%i').includes(job?.id as string), 'the end of the job', 60_000)
    await eventually(() => processesOf(null, `${id}/request.json`).length === 0, 'the end of its processes', 60_000)
  })

  test('the command line sends a grid there, follows it when it is started again, and prints what it prints here', async () => {
    const { slurm } = opened
    const environment = { ...process.env, ESPALIER_HOME: join(slurm.folder, 'command') }
    const espalier = (...words: string[]) => {
      const [node, ...command] = espalierCommand()
      return promisify(execFile)(node, [...command, ...words], { env: environment, maxBuffer: 2 ** 26 })
    }
    await espalier('cluster', 'add', 'lab', '--folder', slurm.shared, '--partition', 'main')
    const asked = ['--model=sample', '--pruning_method=shortgpt,blockpruner', '--sparsity=0.25', '--sequence_length=128', '--json']
    await expect(espalier(...asked, '--executor=nowhere')).rejects.toThrow('There is no cluster "nowhere"')
    const first = espalier(...asked, '--executor=lab')
    first.catch(() => {})
    await eventually(() => jobs('%j').some((name) => name.startsWith('espalier-')), 'its jobs', 60_000)
    first.child.kill('SIGTERM')
    await expect(first).rejects.toMatchObject({ code: 130, stderr: expect.stringContaining('Jobs on lab continue') })
    const [there, here] = [await espalier(...asked, '--executor=lab'), await espalier(...asked)].map(
      ({ stdout }) => JSON.parse(stdout) as RunDocument[],
    )
    expect(there).toHaveLength(2)
    const reported = (documents: RunDocument[] | undefined) =>
      documents?.map(({ method, plan, decisions, measures }) => [method, plan, decisions, measures])
    expect(reported(there)).toEqual(reported(here))
    // Both and their baseline, once.
    const { stdout } = await espalier('runs', 'list', '--json')
    expect((JSON.parse(stdout) as { rows: RunEntry[] }).rows.map(({ executor }) => executor).filter((one) => one === 'lab')).toHaveLength(3)
  })
})
