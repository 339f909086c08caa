import { exportRuns } from './export-runs.ts'
import { commonFlags, commonHelp, readCount, readFlags } from './flags.ts'
import { followRuns, printStatuses, resumeHere } from './output/follow-runs.ts'
import { printJson, printTable, showMoment, showPercent } from './output/print.ts'
import { commandOf } from './run-command.ts'
import { showRun } from './show-run.ts'
import { type CommandDoor, withWorkbench } from './with-workbench.ts'

const help = `espalier runs list [--search TEXT] [--status STATUS] [--method METHOD] [--experiment ID] [--archived] [--limit N]
espalier runs show ID [--log]
espalier runs resume ID… [--wait]
espalier runs cancel ID…
espalier runs export ID… [--format json|csv|markdown|latex] [--paths] [--output FILE]

Lists, shows, resumes, cancels and exports runs in the history. Resuming waits until the runs have ended, unless a server
uses the same data folder; then the server runs them. JSON export takes one experiment, or one run (its description,
to repeat it elsewhere). The other formats write the comparison table of the runs.

  --search TEXT        words in name, notes, tags, model or method
  --status STATUS      draft, queued, running, paused, done, failed, cancelled or interrupted; may be repeated
  --method METHOD      the method's id; may be repeated
  --experiment ID      only runs of this experiment
  --archived           only archived runs
  --limit N            at most this many rows (default 50, up to 1000)
  --log                also print the end of the compute process's output
  --wait               wait for the runs to end, even if a server computes them
  --paths              keep full paths of this machine in an export; otherwise only names of files and folders
  --output FILE        where to write (default: standard output); an existing file is not overwritten
${commonHelp}`

const listFlags = {
  ...commonFlags,
  search: { type: 'string', default: '' },
  status: { type: 'string', multiple: true, default: [] as string[] },
  method: { type: 'string', multiple: true, default: [] as string[] },
  experiment: { type: 'string' },
  archived: { type: 'boolean', default: false },
  limit: { type: 'string', default: '50' },
} as const

const list = async (parameters: string[]): Promise<number> => {
  const { values } = readFlags(parameters, listFlags, { least: 0, most: 0, name: '' })
  const conditions = (['status', 'method'] as const)
    .filter((field) => values[field].length > 0)
    .map((field) => ({ field, is: 'any of' as const, value: [...values[field]] }))
  const limit = readCount(values.limit, '--limit', 1000)
  const page = await withWorkbench(values, ({ call }) =>
    call('runs.query', {
      search: values.search,
      conditions,
      archived: values.archived ? 'only' : 'no',
      limit,
      ...(values.experiment === undefined ? {} : { experiment: values.experiment }),
    }),
  )
  if (values.json) printJson(page)
  else {
    printTable(
      ['ID', 'STATUS', 'METHOD', 'REMOVED', 'SEED', 'PERPLEXITY', 'MODEL', 'NAME', 'CREATED (UTC)'],
      page.rows.map((run) => [
        run.id,
        run.status,
        run.method,
        showPercent(run.reached ?? run.nominal),
        run.seed,
        run.measures.find((measure) => measure.name === 'perplexity')?.value.toFixed(3) ?? null,
        run.model.name,
        run.name,
        showMoment(run.createdAt),
      ]),
    )
    if (page.total > page.rows.length)
      console.error(`Showing ${page.rows.length} of ${page.total} runs. Use --limit or --search to see others.`)
  }
  return 0
}

const show = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(
    parameters,
    { ...commonFlags, log: { type: 'boolean', default: false } },
    { least: 1, most: 1, name: 'The run’s id' },
  )
  return withWorkbench(values, async ({ call }) => {
    const id = words[0] as string
    const run = await call('runs.get', { id })
    const log = values.log ? (await call('runs.log', { id })).text : undefined
    if (values.json) printJson(log === undefined ? run : { ...run, log })
    else showRun(run, log)
    return 0
  })
}

const resume = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(
    parameters,
    { ...commonFlags, wait: { type: 'boolean', default: false } },
    { least: 1, most: 1000, name: 'The run’s id' },
  )
  const work = async (door: CommandDoor) => {
    if (door.runNow) return resumeHere({ ...door, runNow: door.runNow }, words, values.json)
    if (values.wait) return followRuns(door, words, () => door.call('runs.resume', { ids: words }), values.json)
    const { runs } = await door.call('runs.resume', { ids: words })
    printStatuses(runs, values.json)
    return 0
  }
  return withWorkbench(values, work, { computes: true })
}

const cancel = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(parameters, commonFlags, { least: 1, most: 1000, name: 'The run’s id' })
  const { runs } = await withWorkbench(values, ({ call }) => call('runs.cancel', { ids: words }))
  printStatuses(runs, values.json)
  return 0
}

export const runs = commandOf('runs', help, { list, show, resume, cancel, export: exportRuns })
