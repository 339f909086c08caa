import { availableParallelism, cpus, hostname } from 'node:os'
import { toErrorMessage } from '#contract/errors.ts'
import { openHub } from '#hub/hub.ts'
import { type NodeRun, performRunFile } from '#jobs/cluster/perform-run-file.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { hermeticEnvironment } from '#jobs/compute/environment.ts'
import { defaultDataFolder, foldersOf } from '../models/folders.ts'

/** Starts the run of a request file on this node, with the threads and memory that the scheduler granted to the job. */
export function startRunFile(file: string, environment: NodeJS.ProcessEnv = process.env): NodeRun {
  const granted = jobEnvironment(environment)
  const gpus = environment.CUDA_VISIBLE_DEVICES?.split(',').filter((one) => one !== '' && one !== '-1').length ?? 0
  return performRunFile(file, {
    hostFor: (tensorFolder) =>
      new ComputeHost({ command: defaultComputeCommand(), environment: hermeticEnvironment(environment, granted), tensorFolder }),
    async fetchFile(wanted, signal, report) {
      return (await openHub({ tokenFile: foldersOf(defaultDataFolder()).tokenFile })).fetchFile(wanted, { signal, report })
    },
    job: environment.SLURM_JOB_ID ?? null,
    node: environment.SLURMD_NODENAME ?? hostname(),
    device:
      gpus > 0 ? 'GPU' : `${cpus()[0]?.model.trim() || process.arch}, ${granted.TF_NUM_INTRAOP_THREADS ?? availableParallelism()} threads`,
  })
}

/** Environment variables with the threads and memory of a Slurm job. Outside a job it is empty, and values that the user set are kept. */
function jobEnvironment(environment: NodeJS.ProcessEnv): Record<string, string> {
  const processors = Number(environment.SLURM_CPUS_PER_TASK ?? environment.SLURM_CPUS_ON_NODE)
  const megabytes = Number(environment.SLURM_MEM_PER_NODE) || Number(environment.SLURM_MEM_PER_CPU) * processors
  return {
    ...(processors > 0 && !environment.TF_NUM_INTRAOP_THREADS ? { TF_NUM_INTRAOP_THREADS: String(processors) } : {}),
    ...(megabytes > 0 && !environment.ESPALIER_MEMORY ? { ESPALIER_MEMORY: String(Math.floor(megabytes * 2 ** 20)) } : {}),
  }
}

/** Describes in one sentence what the compute process finds on this node. */
export async function probeNode(environment: NodeJS.ProcessEnv = process.env): Promise<string> {
  const host = new ComputeHost({
    command: defaultComputeCommand(),
    environment: hermeticEnvironment(environment, jobEnvironment(environment)),
    tensorFolder: foldersOf(defaultDataFolder()).data,
  })
  try {
    const { backend, device } = (await host.perform({ kind: 'probe' }).result) as { backend: string; device: string }
    return `${backend} on ${device}`
  } catch (thrown) {
    throw new Error(toErrorMessage(thrown).message)
  } finally {
    await host.close()
  }
}
