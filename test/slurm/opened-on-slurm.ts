import { join } from 'node:path'
import type { Input, Output } from '#contract/api.ts'
import { type ClusterProfile, emptyProfile } from '#contract/clusters/clusters.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { sampleModel } from '#runtime/resources.ts'
import { eventually } from '../eventually.ts'
import { type Opened, openedWorkbench } from '../services/opened.ts'
import { type SlurmDaemons, startSlurm } from './slurm-daemons.ts'

const sample = sampleModel() as string

/** A text of the sample model as a run's data. */
export const data = (name: 'calibration' | 'test', windows: number) => ({
  source: join(sample, `${name}.txt`),
  sequenceLength: 128,
  windows,
})

/** A greedy search of many steps that take longer with more windows, so that a test can interrupt one. */
export const search = (windows: number) => ({
  method: 'blockpruner_submodule',
  options: { windows },
  calibration: data('calibration', windows),
})

export const measures = [{ kind: 'perplexity' as const, data: data('test', 8), name: 'test' }]

/** A workbench with the sample model and its own real Slurm. */
export interface OpenedOnSlurm {
  slurm: SlurmDaemons
  readonly workbench: Opened
  /** Closes the workbench and opens another on the same history. */
  reopen(): Promise<void>
  addCluster(name: string, changes?: Partial<ClusterProfile>): Promise<void>
  /** Creates a run, on this machine if no cluster is named. */
  make(cluster: string | null, changes?: Partial<Input<'runs.create'>['request']>): Promise<Output<'runs.create'>>
  get(id: string): Promise<RunDetail>
  /** Waits until the run is done; throws if it ends otherwise. */
  done(id: string, milliseconds?: number): Promise<RunDetail>
  /** Cancels what is running and waits until Slurm has no jobs, so that the next test finds none. */
  clear(): Promise<void>
  close(): Promise<void>
}

export async function openOnSlurm(): Promise<OpenedOnSlurm> {
  const slurm = await startSlurm()
  Object.assign(process.env, slurm.environment)
  const folder = join(slurm.folder, 'data')
  const clusterTimings = { lookMilliseconds: 500, askMilliseconds: 1000 }
  const open = () => openedWorkbench({ folder, computeCommand: defaultComputeCommand(), modelPath: sample, clusterTimings })
  let workbench = await open()
  const get = (id: string) => workbench.call('runs.get', { id })
  return {
    slurm,
    get workbench() {
      return workbench
    },
    async reopen() {
      await workbench.close()
      workbench = await open()
    },
    async addCluster(name, changes) {
      await workbench.call('clusters.save', { cluster: { ...emptyProfile, name, folder: slurm.shared, partition: 'main', ...changes } })
    },
    make: (executor, changes) =>
      workbench.call('runs.create', {
        model: workbench.model.id,
        executor,
        request: { ...search(6), amount: { sparsity: 0.5 }, seed: 0, measures, backend: 'auto', ...changes },
      }),
    get,
    async done(id, milliseconds = 500_000) {
      const over = async () => ['done', 'failed', 'interrupted', 'cancelled'].includes((await get(id)).status)
      await eventually(over, `the end of ${id}`, milliseconds)
      const run = await get(id)
      if (run.status !== 'done') throw new Error(`${run.name} is ${run.status}: ${run.problem?.message}`)
      return run
    },
    async clear() {
      const { runs } = await workbench.call('queue.get', {})
      if (runs.length > 0) await workbench.call('runs.cancel', { ids: runs.map(({ id }) => id) })
      slurm.ask('scancel', '--user=root')
      await eventually(() => slurm.ask('squeue', '--noheader') === '', 'the end of all jobs', 60_000)
    },
    async close() {
      await workbench.close()
      await slurm.stop()
    },
  }
}
