import { execFile } from 'node:child_process'
import { hostname } from 'node:os'
import { promisify } from 'node:util'
import { EspalierError } from '#contract/errors.ts'
import { readFlags } from './read-flags.ts'
import { command } from './run-command.ts'

const help = `espalier run-request FILE
espalier run-request --probe

Computes one run on this machine, without a history. FILE is FOLDER/runs/RUN/request.json. Steps, events and the result are written
beside it, where the workbench that made the request finds them. A restart resumes from the last finished step.
In a Slurm job it uses the job's threads, memory and GPUs. On SIGUSR2, which the batch script requests a minute before the time limit,
the job is requeued if it finished a step.

  --probe              only report the device and backend that would compute here

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped before the end.`

const stoppedCode = 75

export const runRequest = command('run-request', help, async (given) => {
  const { values, words } = readFlags(
    given,
    { probe: { type: 'boolean', default: false } },
    { least: 0, most: 1, name: 'The request file' },
  )
  const { probeNode, startRunFile } = await import('#services/runs/run-file.ts')
  if (values.probe) {
    console.log(`${hostname()} computes with ${await probeNode()}`)
    return 0
  }
  const [file] = words
  if (file === undefined) throw new EspalierError('usage', 'The request file is missing.')
  const run = startRunFile(file)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.removeAllListeners(signal)
    process.on(signal, () => run.stop())
  }
  process.on('SIGUSR2', () => void requeue(run.steps(), process.env.SLURM_JOB_ID))
  const outcome = await run.over
  return { done: 0, failed: 1, stopped: stoppedCode }[outcome]
})

/** Makes Slurm stop and restart this job. Does nothing if no step was finished, because the next attempt would get no further. */
async function requeue(steps: number, job: string | undefined): Promise<void> {
  if (job === undefined) return
  if (steps === 0) return console.error('The time limit is near and no step was finished, so the job is not requeued.')
  console.error(`The time limit is near, so the job is requeued. Finished steps that are kept: ${steps}.`)
  await promisify(execFile)('scontrol', ['requeue', job]).catch((thrown: Error) => console.error(thrown.message))
}
