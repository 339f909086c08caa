import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { emptyProfile } from '#contract/empty-cluster.ts'
import { defaultComputeCommand } from '#services/compute-command.ts'
import { sampleModel } from '#services/sample-model.ts'
import { eventually, type Opened, openedWorkbench } from '../services/opened.ts'
import { outcome } from './outcome.ts'
import { hasSlurm, type SlurmDaemons, startSlurm } from './slurm-daemons.ts'

const sample = sampleModel() as string
const data = (name: string, windows: number) => ({ source: join(sample, `${name}.txt`), sequenceLength: 128, windows })

/** What takes minutes: Slurm counts time limits in them. `ESPALIER_TEST_SLURM=minutes npm test -- test/slurm/minutes.test.ts` */
describe.skipIf(process.env.ESPALIER_TEST_SLURM !== 'minutes' || !hasSlurm())('a real Slurm for some minutes', () => {
  let slurm: SlurmDaemons
  let workbench: Opened
  const home = mkdtempSync(join(tmpdir(), 'espalier-minutes-'))
  const shared = join(home, 'shared')

  const open = () =>
    openedWorkbench({
      folder: join(home, 'data'),
      computeCommand: defaultComputeCommand(),
      modelPath: sample,
      clusterTimings: { lookMilliseconds: 500, askMilliseconds: 1000 },
    })
  const get = (id: string) => workbench.call('runs.get', { id })
  const done = async (id: string) => {
    const ended = async () => ['done', 'failed', 'interrupted'].includes((await get(id)).status)
    await eventually(ended, `the end of ${id}`, 800_000)
    const run = await get(id)
    expect(run).toMatchObject({ status: 'done', problem: null })
    return run
  }
  const make = (executor: string | null, windows: number, seed: number) =>
    workbench.call('runs.create', {
      model: workbench.model.id,
      executor,
      request: {
        method: 'blockpruner_submodule',
        amount: { sparsity: 0.5 },
        options: { windows },
        seed,
        calibration: data('calibration', windows),
        measures: [{ kind: 'perplexity', data: data('test', 8), name: 'test' }],
        backend: 'auto',
      },
    })
  /** How long a run on so many windows takes on this machine, as busy as it is. */
  const lasting = async (windows: number) => {
    const { seconds } = await done((await make(null, windows, 9)).id)
    return seconds ?? Number.NaN
  }
  const printed = () => readdirSync(join(shared, 'logs')).map((name) => readFileSync(join(shared, 'logs', name), 'utf8'))

  beforeAll(async () => {
    slurm = await startSlurm()
    Object.assign(process.env, slurm.environment, { TF_NUM_INTRAOP_THREADS: '1' })
    mkdirSync(shared)
    workbench = await open()
    const profile = { ...emptyProfile, folder: shared, partition: 'main' }
    // A signal that means nothing to the job: its limit comes over it untold.
    const untold = '#SBATCH --signal=B:CONT@5'
    for (const [name, time, lines] of [
      ['unlimited', '', ''],
      ['untold', '1', untold],
      ['told', '2', ''],
    ] as const)
      await workbench.call('clusters.save', { cluster: { ...profile, name, time, lines } })
  }, 120_000)

  afterAll(async () => {
    await workbench?.close()
    await slurm?.stop()
    delete process.env.SLURM_CONF
    rmSync(home, { recursive: true, force: true })
  }, 60_000)

  test('a controller that is down for a minute loses nothing: runs go on, what waits is sent later, a workbench opened meanwhile follows', async () => {
    const running = await make('unlimited', 40, 1)
    await eventually(async () => (await get(running.id)).stepsDone >= 1, 'a step', 60_000)
    slurm.stopController()
    const [stoppedAt, before] = [performance.now(), (await get(running.id)).stepsDone]
    const late = await make('unlimited', 2, 2)
    await workbench.close()
    workbench = await open()
    await eventually(async () => (await get(running.id)).stepsDone > before, 'a step while the controller is down', 60_000)
    await eventually(
      async () => (await workbench.call('queue.get', {})).clusters.find(({ name }) => name === 'unlimited')?.problem,
      'word that the controller is down',
      120_000,
    )
    await sleep(Math.max(0, 61_000 - (performance.now() - stoppedAt)))
    expect((await get(late.id)).status).toBe('queued')
    await slurm.startController()
    const there = await Promise.all([done(running.id), done(late.id)])
    expect(there.map(({ attempts }) => attempts)).toEqual([1, 1])
    const here = await Promise.all([await make(null, 40, 1), await make(null, 2, 2)].map(({ id }) => done(id)))
    expect(there.map(outcome)).toEqual(here.map(outcome))
  }, 500_000)

  test('a job that meets its time limit goes on at its last step, whether it was told before or not', async () => {
    const [few, seconds] = [4, await lasting(4)]
    const windows = (minutes: number) => Math.ceil((few * 60 * minutes) / seconds)
    const [untold, told] = [await make('untold', windows(1.6), 3), await make('told', windows(2.2), 4)]
    const there = await Promise.all([done(untold.id), done(told.id)])
    expect(Math.min(...there.map(({ attempts }) => attempts))).toBeGreaterThan(1)
    expect(printed().filter((text) => /DUE TO TIME LIMIT/.test(text)).length).toBeGreaterThan(0)
    expect(printed().filter((text) => /steps are kept and the job is requeued/.test(text)).length).toBeGreaterThan(0)
    const here = await Promise.all([await make(null, windows(1.6), 3), await make(null, windows(2.2), 4)].map(({ id }) => done(id)))
    expect(there.map(outcome)).toEqual(here.map(outcome))
  }, 1_800_000)
})
