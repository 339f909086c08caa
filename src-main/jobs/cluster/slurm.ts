import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { jobName } from './batch-script.ts'
import type { ClusterShell, Command, ShellAnswer } from './cluster-shell.ts'

/** One task in Slurm's queue or accounts. */
export interface SlurmTask {
  /** Job number of the whole array. */
  job: number
  task: number
  name: string
  state: string
  node: string | null
  reason: string | null
}

const namePrefix = jobName('')

/** Slurm's own commands. Each call throws `unreachable` with the command's message if the cluster does not answer. */
export class Slurm {
  readonly #shell: ClusterShell
  /** Whether this Slurm prints JSON; undefined until tried. */
  #hasJson: boolean | undefined

  constructor(shell: ClusterShell) {
    this.#shell = shell
  }

  /** Submits a batch script and returns the job number. */
  async submit(script: string): Promise<number> {
    const output = await this.#ask(['sbatch', '--parsable'], script)
    const job = Number(/^(\d+)/.exec(output.trim())?.[1])
    if (job > 0) return job
    throw new EspalierError('unreachable', `sbatch answered ${JSON.stringify(output.slice(0, 200))} instead of a job number.`)
  }

  /** Returns the waiting and running tasks of this user's jobs that Espalier submitted. */
  async tasks(): Promise<SlurmTask[]> {
    const text: Command = ['squeue', '--me', '--array', '--noheader', '--format=%F|%K|%T|%N|%r|%j']
    return (await this.#inJsonOr(['squeue', '--me'], text, readTextTasks)).filter(({ name }) => name.startsWith(namePrefix))
  }

  /** Returns the tasks of a job that Slurm still remembers, including ended ones; none if it has forgotten the job. */
  async remembered(job: number): Promise<SlurmTask[]> {
    try {
      const command: Command = ['scontrol', 'show', 'job', String(job)]
      const found = await this.#inJsonOr(command, [...command, '--oneliner'], readOneLiners)
      if (found.length > 0) return found
    } catch (thrown) {
      if (!(thrown instanceof EspalierError) || !/invalid job id/i.test(thrown.message)) throw thrown
    }
    const columns = ['--noheader', '--parsable2', '--allocations', '--format=JobID,State,NodeList']
    return accounted(await this.#shell.run(['sacct', '--jobs', String(job), ...columns]))
  }

  async cancel(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#ask(['scancel', ...ids]).catch(forgiveEnded)
  }

  async #ask(command: Command, input?: string): Promise<string> {
    const answer = await this.#shell.run(command, input)
    if (answer.code === 0) return answer.output
    throw unreachable(command, answer)
  }

  async #inJsonOr(command: Command, text: Command, readText: (output: string) => SlurmTask[]): Promise<SlurmTask[]> {
    if (this.#hasJson !== false) {
      const answer = await this.#shell.run([...command, '--json'])
      if (answer.code === 0) {
        const tasks = readJson(answer.output)
        this.#hasJson = tasks !== undefined
        if (tasks) return tasks
      } else if (!lacksJson(answer)) throw unreachable(command, answer)
      this.#hasJson = false
    }
    return readText(await this.#ask(text))
  }
}

function unreachable([program]: Command, { code, errors }: ShellAnswer): EspalierError {
  return new EspalierError('unreachable', `${program}: ${errors.trim().slice(0, 500) || `ended with code ${code}`}`)
}

/** Ignores the error that a job has already ended, because it needs no cancelling. */
function forgiveEnded(thrown: unknown): void {
  if (thrown instanceof EspalierError && /invalid job id|already completed|job\/step already/i.test(thrown.message)) return
  throw thrown
}

function lacksJson({ errors }: ShellAnswer): boolean {
  return /unrecognized option|invalid option|plugin|serializer|data_parser|json/i.test(errors)
}

/** Depending on the version, numbers are plain or `{ set, number }`, and states are a word or a list. */
const number = z.union([
  z.number(),
  z.object({ set: z.boolean(), number: z.number() }).transform(({ set, number }) => (set ? number : undefined)),
])
const words = z.union([z.string(), z.array(z.string()).transform(([first]) => first ?? '')])
const jobs = z.object({
  jobs: z.array(
    z.object({
      job_id: number,
      array_job_id: number.optional(),
      array_task_id: number.nullish(),
      array_task_string: z.string().nullish(),
      name: z.string().nullish(),
      job_state: words,
      state_reason: z.string().nullish(),
      nodes: z.string().nullish(),
    }),
  ),
})

/** Parses the JSON of `squeue` and `scontrol`. Returns undefined if the text is not such JSON. */
export function readJson(text: string): SlurmTask[] | undefined {
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    return undefined
  }
  const parsed = jobs.safeParse(raw)
  return parsed.data?.jobs.flatMap((job) => {
    const base = {
      job: job.array_job_id || (job.job_id ?? 0),
      name: job.name ?? '',
      state: job.job_state,
      node: job.nodes || null,
      reason: reasonOf(job.state_reason),
    }
    // Tasks that wait together share one entry, which lists them.
    const tasks = job.array_task_string ? expandTasks(job.array_task_string) : [job.array_task_id ?? 0]
    return tasks.map((task) => ({ ...base, task }))
  })
}

/** At most this many tasks of a list are expanded. Our arrays have at most 500; a longer list is not ours. */
const mostTasks = 10_000

/** Expands `0-3,7,9-20:2%5` to numbers. Slurm truncates long lists with `...`. */
export function expandTasks(text: string): number[] {
  let left = mostTasks
  return text
    .replace(/%.*$/, '')
    .split(',')
    .flatMap((part) => {
      const match = /^(\d+)(?:-(\d+))?(?::(\d+))?$/.exec(part.trim())
      if (!match) return []
      const [first, last, step] = [Number(match[1]), Number(match[2] ?? match[1]), Math.max(1, Number(match[3] ?? 1))]
      const length = Math.max(0, Math.min(left, Math.floor((last - first) / step) + 1))
      left -= length
      return Array.from({ length }, (_, index) => first + index * step)
    })
}

/** Parses `squeue` lines, one task each. */
export function readTextTasks(output: string): SlurmTask[] {
  return output
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [job, task, state = '', node, reason, ...name] = line.split('|')
      return { job: Number(job), task: Number(task) || 0, state, node: node || null, reason: reasonOf(reason), name: name.join('|') }
    })
}

/** Parses `Name=value` pairs of `scontrol`. Each line is one job, or the waiting rest of an array. */
export function readOneLiners(output: string): SlurmTask[] {
  return output
    .split('\n')
    .filter((line) => line.startsWith('JobId='))
    .flatMap((line) => {
      const field = (name: string) => new RegExp(`(?:^|\\s)${name}=(\\S*)`).exec(line)?.[1]
      const base = {
        job: Number(field('ArrayJobId') ?? field('JobId')),
        name: field('JobName') ?? '',
        state: field('JobState') ?? '',
        node: nodeOf(field('NodeList')),
        reason: reasonOf(field('Reason')),
      }
      return expandTasks(field('ArrayTaskId') ?? '0').map((task) => ({ ...base, task }))
    })
}

/** Parses `sacct` lines; empty if this Slurm has no accounting. */
function accounted({ code, output }: ShellAnswer): SlurmTask[] {
  if (code !== 0) return []
  return output
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [id = '', state = '', node] = line.split('|')
      const [job, task] = id.split('_')
      return { job: Number(job), task: Number(task) || 0, state: state.split(' ')[0] ?? '', node: nodeOf(node), reason: null, name: '' }
    })
}

const nodeOf = (text: string | undefined): string | null => (!text || /^\(null\)$|^None assigned$/.test(text) ? null : text)
const reasonOf = (text: string | null | undefined): string | null => (!text || text === 'None' ? null : text)
