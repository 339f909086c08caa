import type { Input } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { canAct, type RunStatus, refusalOf } from '#contract/runs/run-status.ts'
import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import { shareDone } from '#contract/runs/time/progress.ts'
import type { CommonValues } from '../read-flags.ts'
import { type CommandDoor, withWorkbench } from '../with-workbench.ts'
import { tellMemoryWaits } from './memory-waits.ts'
import { printable, printJson, printTable, showPercent } from './print.ts'

const underWay: ReadonlySet<RunStatus> = new Set(['queued', 'running'])

/** Resumes runs in this process, one after another. A signal interrupts the current run, which can be resumed later. */
export async function resumeHere(door: Required<CommandDoor>, ids: readonly string[], asJson: boolean): Promise<number> {
  for (const id of ids) checkResumable(await door.call('runs.get', { id }))
  return report(await runHere(door, ids), asJson)
}

/** Clones a run with changes, runs the clone as `doDrafts` does, prints its state and returns the exit code. */
export function startChanged(
  id: string,
  changesOf: (run: RunDetail) => Input<'runs.clone'>['changes'],
  values: CommonValues & { wait: boolean },
): Promise<number> {
  const work = async (door: CommandDoor) => {
    const run = await door.call('runs.get', { id })
    const made = await door.call('runs.clone', { id: run.id, changes: changesOf(run), start: 'draft' })
    const runs = await doDrafts(door, [made.id], values.wait)
    return reportStarted(door, runs, values)
  }
  return withWorkbench(values, work, { computes: true })
}

/** Runs drafts in this process, or adds them to a server's queue and, with `wait`, waits until all have ended. */
export async function doDrafts(door: CommandDoor, ids: readonly string[], wait: boolean): Promise<RunEntry[]> {
  if (door.runNow) return runHere({ ...door, runNow: door.runNow }, ids)
  const start = () => door.call('runs.enqueue', { ids: [...ids] })
  return wait ? untilEnded(door, ids, start) : (await start()).runs
}

async function runHere(door: Required<CommandDoor>, ids: readonly string[]): Promise<RunEntry[]> {
  const stop = tellChanges(door, ids)
  const signal = interrupted()
  for (const id of ids) await Promise.race([door.runNow(id), signal])
  stop()
  return Promise.all(ids.map((id) => door.call('runs.get', { id })))
}

function checkResumable(run: RunEntry): void {
  if (!canAct('resume', run.status)) throw new EspalierError('conflict', refusalOf('resume', run))
}

type Start = () => Promise<{ runs: RunEntry[] }>

/** Starts runs on a server, waits until all have ended, prints their state and returns the exit code. */
export async function followRuns(door: CommandDoor, ids: readonly string[], start: Start, asJson: boolean): Promise<number> {
  return report(await untilEnded(door, ids, start), asJson)
}

async function untilEnded(door: CommandDoor, ids: readonly string[], start: Start): Promise<RunEntry[]> {
  const states = new Map<string, RunEntry>()
  let settle = () => {}
  const ended = new Promise<void>((resolve) => {
    settle = resolve
  })
  const take = (run: RunEntry) => {
    states.set(run.id, run)
    if (states.size === ids.length && [...states.values()].every(({ status }) => !underWay.has(status))) settle()
  }
  // What ended while no connection was open is known only by asking. Nothing is known of drafts that have not started.
  const askAgain = () => {
    for (const id of states.keys()) void door.call('runs.get', { id }).then(takeUnlessEnded, () => {})
  }
  /** An answer may be older than an event that came while it was under way. */
  const takeUnlessEnded = (run: RunEntry) => {
    const known = states.get(run.id)
    if (!known || underWay.has(known.status)) take(run)
  }
  const stop = tellChanges(door, ids, take, askAgain)
  const { runs } = await start()
  for (const run of runs) if (!states.has(run.id)) take(run)
  await Promise.race([ended, interrupted()])
  stop()
  return [...states.values()]
}

/** Prints the states of runs that `doDrafts` started. Returns the exit code, which says nothing of runs that are left to a server. */
export function reportStarted(door: CommandDoor, runs: readonly RunEntry[], { wait, json }: CommonValues & { wait: boolean }): number {
  const code = report(runs, json)
  return door.runNow || wait ? code : 0
}

/** Prints the runs' states. Returns the exit code: 1 if a run did not finish. */
function report(runs: readonly RunEntry[], asJson: boolean): number {
  printStatuses(runs, asJson)
  return runs.every(({ status }) => status === 'done') ? 0 : 1
}

export function printStatuses(runs: readonly RunEntry[], asJson: boolean): void {
  if (asJson) printJson(runs)
  else {
    printTable(
      ['ID', 'STATUS', 'NAME'],
      runs.map(({ id, status, name }) => [id, status, name]),
    )
  }
}

/** Resolves at the first signal, so that the caller can close the history. A second signal ends the process at once. */
function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.removeAllListeners(signal)
      process.once(signal, resolve)
    }
  })
}

/** Reports each change of the runs on stderr. On a terminal, a line of progress overwrites the one before it. */
function tellChanges(
  door: CommandDoor,
  ids: readonly string[],
  take: (run: RunEntry) => void = () => {},
  connected?: () => void,
): () => void {
  let last = ''
  const tellWait = tellMemoryWaits((id) => ids.includes(id))
  return door.subscribe((event) => {
    tellWait(event)
    if (event.name !== 'run changed' || !ids.includes(event.data.run.id)) return
    const { run } = event.data
    const line = lineOf(run)
    if (line !== last) tell(line, run)
    last = line
    take(run)
  }, connected)
}

function lineOf({ name, status, progress }: RunEntry): string {
  const share = status === 'running' ? shareDone(progress) : null
  return printable(`${name}: ${status}${share === null ? '' : `, ${progress?.phase} ${showPercent(share)}`}`)
}

function tell(line: string, { status, progress }: RunEntry): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${line}${underWay.has(status) ? '' : '\n'}`)
  else if (status !== 'running' || !progress) console.error(line)
}
