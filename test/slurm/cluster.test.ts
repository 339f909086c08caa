import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ClusterProfile } from '#contract/clusters.ts'
import { emptyProfile } from '#contract/empty-cluster.ts'
import type { GridInput } from '#contract/experiments.ts'
import type { RunDocument } from '#contract/run.ts'
import type { RunEntry } from '#contract/runs.ts'
import { defaultComputeCommand, espalierCommand } from '#services/compute-command.ts'
import { sampleModel } from '#services/sample-model.ts'
import { processesOf } from '../jobs/watching.ts'
import { eventually, type Opened, openedWorkbench } from '../services/opened.ts'
import { outcome } from './outcome.ts'
import { hasSlurm, type SlurmDaemons, startSlurm } from './slurm-daemons.ts'

const clusterTimings = { lookMilliseconds: 500, askMilliseconds: 1000 }
const sample = sampleModel() as string
const text = (name: string) => join(sample, `${name}.txt`)
const data = (name: string, windows: number) => ({ source: text(name), sequenceLength: 128, windows })

describe.skipIf(!process.env.ESPALIER_TEST_SLURM || !hasSlurm())('a real Slurm of two nodes', () => {
  let slurm: SlurmDaemons
  let workbench: Opened
  let home: string
  let profile: ClusterProfile

  const open = () =>
    openedWorkbench({ folder: join(home, 'data'), computeCommand: defaultComputeCommand(), modelPath: sample, clusterTimings })
  const get = (id: string) => workbench.call('runs.get', { id })
  const ended = (id: string) =>
    eventually(
      async () => {
        const run = await get(id)
        return ['done', 'failed', 'interrupted', 'cancelled'].includes(run.status) && run
      },
      `the end of ${id}`,
      280_000,
    )
  /** A run of many steps, of which each takes a good part of a second, so that it can be caught in the middle of one. */
  const long = (executor: string | null, seed: number) =>
    workbench.call('runs.create', {
      model: workbench.model.id,
      executor,
      request: {
        method: 'blockpruner_submodule',
        amount: { sparsity: 0.5 },
        options: { windows: 6 },
        seed,
        calibration: data('calibration', 6),
        measures: [{ kind: 'perplexity', data: data('test', 8), name: 'test' }],
        backend: 'auto',
      },
    })

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'espalier-cluster-'))
    slurm = await startSlurm()
    Object.assign(process.env, slurm.environment, { TF_NUM_INTRAOP_THREADS: '1' })
    mkdirSync(join(home, 'shared'))
    profile = { ...emptyProfile, name: 'test', folder: join(home, 'shared'), partition: 'main' }
    workbench = await open()
    await workbench.call('clusters.save', { cluster: profile })
  }, 120_000)

  afterAll(async () => {
    await workbench?.close()
    await slurm?.stop()
    delete process.env.SLURM_CONF
    rmSync(home, { recursive: true, force: true })
  }, 60_000)

  test('the check finds commands, partitions, the folder and what computes on a node', async () => {
    const findings = await workbench.call('clusters.check', { name: 'test' })
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
    expect(findings.at(-1)?.found).toMatch(/: tensorflow.* on |: wasm on /)
  }, 60_000)

  test('a grid of 12 runs and its baseline gives on both nodes what it gives here, through a restart and a controller that is down', async () => {
    const grid: GridInput = {
      models: [workbench.model.id],
      methods: [{ method: '2ssp' }, { method: 'shortgpt' }, { method: 'slicegpt' }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.4 }],
      seeds: [0, 1],
      calibration: data('calibration', 8),
      measures: [{ kind: 'perplexity', data: data('test', 8), name: 'test' }],
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
    const queue = await workbench.call('queue.get', {})
    expect(queue.clusters).toMatchObject([{ name: 'test', problem: null }])
    expect(queue.runs.filter(({ status }) => status === 'running').map(({ job }) => job)).toContainEqual(
      expect.objectContaining({ state: 'running', node: expect.stringMatching(/^n[12]$/) }),
    )
    // Slurm gives a reason once its scheduler has looked at a job.
    await eventually(
      async () =>
        (await workbench.call('queue.get', {})).runs.some(
          ({ status, job }) => status === 'queued' && job?.state === 'waiting' && job.reason,
        ),
      'the reason why a job waits',
      60_000,
    )
    expect(Number(slurm.ask('squeue', '--noheader', '--format=%F').split('\n')[0])).toBeGreaterThan(0)

    slurm.stopController()
    await eventually(async () => (await workbench.call('queue.get', {})).clusters[0]?.problem, 'word that the controller is down', 120_000)
    await workbench.close()
    await slurm.startController()
    workbench = await open()

    const there = await Promise.all(runs.map(({ id }) => ended(id)))
    expect(there.map(({ status, problem }) => [status, problem])).toEqual(Array(13).fill(['done', null]))
    expect(new Set(there.map(({ device }) => /n[12]/.exec(device ?? '')?.[0]))).toEqual(new Set(['n1', 'n2']))
    const { runs: ours } = await workbench.call('experiments.create', { name: 'Here', grid })
    const here = await Promise.all(ours.map(({ id }) => ended(id)))
    expect(there.map(outcome)).toEqual(here.map(outcome))
  }, 300_000)

  test('a job that is requeued and one whose processes are killed end in the plan of an undisturbed run; cancelling reaches the job', async () => {
    const [requeued, killed] = [await long('test', 3), await long('test', 4)]
    const started = (id: string, steps: number) =>
      eventually(
        async () => {
          const run = await get(id)
          return run.stepsDone >= steps && run.job?.state === 'running' && run
        },
        `${steps} steps of ${id}`,
        60_000,
      )
    const [one, other] = await Promise.all([started(requeued.id, 2), started(killed.id, 2)])
    slurm.ask('scontrol', 'requeue', one.job?.id as string)
    const victims = processesOf(null, `${other.id}/request.json`)
    expect(victims.length).toBeGreaterThan(0)
    for (const pid of victims) process.kill(pid, 'SIGKILL')
    const there = await Promise.all([ended(requeued.id), ended(killed.id)])
    for (const run of there) expect(run).toMatchObject({ status: 'done', attempts: 2, problem: null })

    const cancelled = await long('test', 5)
    const { job } = await started(cancelled.id, 1)
    await workbench.call('runs.cancel', { ids: [cancelled.id] })
    expect((await get(cancelled.id)).status).toBe('cancelled')
    await eventually(
      () =>
        !slurm
          .ask('squeue', '--noheader', '--array', '--format=%i')
          .split('\n')
          .includes(job?.id as string),
      'the end of the job',
      20_000,
    )
    await eventually(() => processesOf(null, `${cancelled.id}/request.json`).length === 0, 'the end of its processes', 20_000)

    const here = [await long(null, 3), await long(null, 4)]
    const undisturbed = await Promise.all(here.map(({ id }) => ended(id)))
    expect(there.map(outcome)).toEqual(undisturbed.map(outcome))
  }, 300_000)

  test('the command line sends a grid there, follows it when it is started again, and prints what it prints here', async () => {
    const environment = { ...process.env, ESPALIER_HOME: join(home, 'command') }
    const espalier = (...words: string[]) => {
      const [node, ...command] = espalierCommand()
      return promisify(execFile)(node, [...command, ...words], { env: environment, maxBuffer: 2 ** 26 })
    }
    await espalier('cluster', 'add', 'lab', '--folder', join(home, 'shared'), '--partition', 'main')
    const asked = ['--model=sample', '--pruning_method=shortgpt,blockpruner', '--sparsity=0.25', '--sequence_length=128', '--json']
    await expect(espalier(...asked, '--executor=nowhere')).rejects.toThrow('There is no cluster "nowhere"')
    const first = espalier(...asked, '--executor=lab')
    first.catch(() => {})
    await eventually(() => slurm.ask('squeue', '--noheader', '--format=%j').includes('espalier-'), 'its jobs', 60_000)
    first.child.kill('SIGTERM')
    await expect(first).rejects.toMatchObject({ code: 130, stderr: expect.stringContaining('Jobs on lab go on') })
    const [there, here] = [await espalier(...asked, '--executor=lab'), await espalier(...asked)].map(
      ({ stdout }) => JSON.parse(stdout) as RunDocument[],
    )
    expect(there).toHaveLength(2)
    const told = (documents: RunDocument[] | undefined) =>
      documents?.map(({ method, plan, decisions, measures }) => [method, plan, decisions, measures])
    expect(told(there)).toEqual(told(here))
    // Both and their baseline, once.
    const { stdout } = await espalier('runs', 'list', '--json')
    expect((JSON.parse(stdout) as { rows: RunEntry[] }).rows.map(({ executor }) => executor).filter((one) => one === 'lab')).toHaveLength(3)
  }, 300_000)
})
