import type { RunEntry, RunStatus } from '#contract/runs.ts'
import { printable, printJson, printTable, showPercent } from './print.ts'
import type { CommandDoor } from './with-workbench.ts'

const under: ReadonlySet<RunStatus> = new Set(['queued', 'running'])

/** Starts runs and waits until each has ended, telling how far they are. The exit code is 1 when one did not get done. */
export async function followRuns(
  door: CommandDoor,
  ids: readonly string[],
  start: () => Promise<{ runs: RunEntry[] }>,
  asJson: boolean,
): Promise<number> {
  const states = new Map<string, RunEntry>()
  let settle = () => {}
  const ended = new Promise<void>((resolve) => {
    settle = resolve
  })
  const take = (run: RunEntry) => {
    if (states.get(run.id)?.status !== run.status || run.progress) tell(run)
    states.set(run.id, run)
    if (states.size === ids.length && [...states.values()].every(({ status }) => !under.has(status))) settle()
  }
  const stop = door.subscribe((event) => {
    if (event.name === 'run changed' && ids.includes(event.data.run.id)) take(event.data.run)
  })
  const { runs } = await start()
  for (const run of runs) if (!states.has(run.id)) take(run)
  await Promise.race([ended, interrupted()])
  stop()
  const last = [...states.values()]
  if (asJson) printJson(last)
  else
    printTable(
      ['ID', 'STATUS', 'NAME'],
      last.map(({ id, status, name }) => [id, status, name]),
    )
  return last.every(({ status }) => status === 'done') ? 0 : 1
}

function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGINT', resolve)
    process.once('SIGTERM', resolve)
  })
}

let lastTold = ''

/** One line per change; on a terminal the line of the progress is written over. */
function tell({ name, status, progress }: RunEntry): void {
  const share = progress && progress.total > 0 ? ` ${printable(progress.phase)} ${showPercent(progress.done / progress.total)}` : ''
  const line = `${printable(name)}: ${status}${status === 'running' ? share : ''}`
  if (line === lastTold) return
  lastTold = line
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${line}${under.has(status) ? '' : '\n'}`)
  else if (!share || status !== 'running') console.error(line)
}
