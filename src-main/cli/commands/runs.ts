import { measureTitle } from '#contract/comparison/measure-columns.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { beginText } from '#contract/data/begin-token.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Recovery } from '#contract/pruning/recovery.ts'
import type { Repair } from '#contract/pruning/repair.ts'
import { withModelNames } from '#contract/runs/model-names.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { usedText } from '../result-table.ts'
import { followRuns, printStatuses, resumeHere } from './output/follow-runs.ts'
import { deliver, printable, printJson, printTable, showMoment, showPercent, showSeconds } from './output/print.ts'
import { commonFlags, commonHelp, readCount, readFlags } from './read-flags.ts'
import { commandOf } from './run-command.ts'
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
      withModelNames(page.rows).map((run) => [
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

const formats = ['json', 'csv', 'markdown', 'latex'] as const
type Format = (typeof formats)[number]

const flags = {
  ...commonFlags,
  format: { type: 'string', default: 'json' },
  paths: { type: 'boolean', default: false },
  output: { type: 'string', short: 'o' },
} as const

/** Runs `espalier runs export`. Returns the exit code. */
async function exportRuns(parameters: string[]): Promise<number> {
  const { values, words } = readFlags(parameters, flags, { least: 1, most: 500, name: 'The id of a run or an experiment' })
  const format = formats.find((one) => one === values.format)
  if (!format) throw new EspalierError('usage', `--format ${values.format} is not known. Choose one of ${formats.join(', ')}.`)
  const content = await withWorkbench(values, (door) => contentOf(door, words, format, values.paths))
  await deliver(content, values.output)
  return 0
}

async function contentOf({ call }: CommandDoor, ids: string[], format: Format, paths: boolean): Promise<string> {
  if (format !== 'json') return (await call('compare.table', { ids, format })).content
  const [id, ...more] = ids
  if (id === undefined || more.length > 0)
    throw new EspalierError('usage', 'JSON can hold one run or one experiment. Export an experiment to get several runs in one file.')
  try {
    return (await call('experiments.export', { id, paths })).content
  } catch (thrown) {
    if (!(thrown instanceof EspalierError) || thrown.code !== 'not-found') throw thrown
    return `${JSON.stringify(await call('runs.describe', { id, paths }), null, 2)}\n`
  }
}

/** Prints a run's settings, decisions and measures. */
export function showRun(run: RunDetail, log: string | undefined): void {
  const facts: [string, string | null][] = [
    ['name', run.name],
    ['status', run.status],
    ['experiment', run.experiment && `${run.experiment.name} (${run.experiment.id})`],
    ['model', `${run.model.name} (${run.model.id})`],
    ['method', run.method],
    ['options', JSON.stringify(run.resolved)],
    ['seed', `${run.seed}`],
    ['begin token', run.beginToken ? beginText(run.beginToken) : null],
    ['calibrated on', run.calibration && usedText(run.calibration)],
    ['repaired', run.repair && describeRepair(run.repair)],
    ['recovered', run.recovery && describeRecovery(run.recovery)],
    ...run.evaluation.map((used): [string, string] => ['measured on', usedText(used)]),
    ['removed', describeRemoved(run)],
    ['created', `${showMoment(run.createdAt)} UTC`],
    ['took', showSeconds(run.seconds)],
    ['device', run.device],
    ['plan', run.plan && describePlan(run.plan)],
    ['problem', run.problem && [run.problem.message, run.problem.advice].filter(Boolean).join(' ')],
    ['notes', run.notes || null],
  ]
  for (const [name, value] of facts) if (value !== null) console.log(`${name.padEnd(13)} ${printable(value)}`)
  if (run.measures.length > 0) {
    console.log('')
    printTable(
      ['MEASURE', 'DATA', 'VALUE', 'UNIT', 'ERROR'],
      run.measures.map(({ name, dataset, value, unit, error }) => [
        measureTitle({ name, dataset }),
        dataset,
        Number(value.toPrecision(7)),
        unit,
        error === undefined ? null : Number(error.toPrecision(3)),
      ]),
    )
  }
  for (const remark of run.remarks) console.log(`\n${printable(remark)}`)
  if (log !== undefined) console.log(`\n${log.split('\n').map(printable).join('\n')}`)
}

function describeRemoved({ reached, nominal }: RunDetail): string | null {
  return reached === null ? showPercent(nominal) : `${showPercent(reached)} (requested: ${showPercent(nominal) ?? '-'})`
}

function describeRepair({ kind, calibration, seconds, blocks }: Repair): string {
  const replaced = blocks.filter(({ before, after }) => after < before).length
  return `${kind}, ${replaced} of ${blocks.length} projections replaced, in ${showSeconds(seconds)}; fitted on ${usedText(calibration)}`
}

function describeRecovery({ tokens, best, points, seconds, text }: Recovery): string {
  const mean = (values: readonly number[] = []) => meanOf(values).toFixed(3)
  const change = best === 0 ? 'weights unchanged' : `held-out divergence ${mean(points[0]?.heldOut)} to ${mean(points[best]?.heldOut)} nats`
  return `${tokens.toLocaleString('en')} tokens in ${showSeconds(seconds)}, ${change}; trained on ${usedText(text)}`
}

/** Describes a plan in one line: the removed attention submodules and MLPs, and the kept experts, neurons and width. */
function describePlan({ blocks, slice }: Plan): string {
  const attention = blocks.flatMap((block, index) => (block.attention === 'removed' ? [index] : []))
  const mlp = blocks.flatMap((block, index) => (block.mlp === 'removed' ? [index] : []))
  const mlps = blocks.flatMap((block) => (block.mlp === 'removed' ? [] : [block.mlp]))
  const widths = sizes(mlps.flatMap(({ kept, keptByExpert = [] }) => (kept === 'all' ? keptByExpert : [kept])))
  const experts = sizes(mlps.flatMap((mlp) => (mlp.experts ? [mlp.experts] : [])))
  const parts = [
    attention.length > 0 && `attention removed in ${attention.join(' ')}`,
    mlp.length > 0 && `MLP removed in ${mlp.join(' ')}`,
    experts && `experts kept: ${experts}`,
    widths && `MLP neurons kept: ${widths}`,
    slice && `width ${slice.width}`,
  ].filter((part) => part)
  return parts.length > 0 ? `${parts.join('; ')} (of ${blocks.length} blocks)` : `nothing removed (of ${blocks.length} blocks)`
}

/** Returns the distinct lengths of lists in ascending order, or an empty string if there are no lists. */
function sizes(lists: readonly (readonly number[])[]): string {
  return [...new Set(lists.map(({ length }) => length))].sort((a, b) => a - b).join(' ')
}
