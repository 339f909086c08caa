import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { mostCompared } from '#contract/comparison/comparison-calls.ts'
import { type Cost, costsOf, costText, fileSize } from '#contract/comparison/costs.ts'
import { usualCost, type Worth, worthOf } from '#contract/comparison/verdict.ts'
import { verdictTexts } from '#contract/comparison/verdict-sentence.ts'
import { duelText, outcomeText, qualityText } from '#contract/comparison/worth.ts'
import { isPruned, runsByModel } from '#contract/comparison/worth-runs.ts'
import { EspalierError } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import { printable, printJson, printTable, showPercent } from './output/print.ts'
import { commonFlags, commonHelp, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'
import { type CommandDoor, withWorkbench } from './with-workbench.ts'

const help = `espalier worth EXPERIMENT [--cost MEASURE]

Reports whether pruning is worth it: compares each pruned file with the best dense file that costs at most 1 % more
and was measured on the same windows. A difference counts if its 95 % interval, over windows and seeds, leaves out equality.
Only text that played no part in calibration, repair, recovery or quantisation counts for the verdict.
To have files to compare, make the runs with --weights.

  --cost MEASURE       a measured cost, such as "tokens per second"
${commonHelp}`

const flags = { ...commonFlags, cost: { type: 'string' } } as const

export const worth = command('worth', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 1, most: 1, name: 'The experiment’s id' })
  const runs = await withWorkbench(values, (door) => read(door, words[0] as string))
  const cost = values.cost === undefined ? usualCost(runs) : costNamed(values.cost, costsOf(runs, isPruned))
  const found = worthOf(runs, cost)
  if (values.json) printJson(found)
  else print(found, cost)
  return 0
})

async function read({ call }: CommandDoor, experiment: string): Promise<ComparedRun[]> {
  // Throws if there is none.
  await call('experiments.get', { id: experiment })
  const conditions = [{ field: 'status', is: 'any of' as const, value: ['done'] }]
  const { rows, total } = await call('runs.query', { experiment, columns: [], conditions, limit: mostCompared })
  if (total > mostCompared)
    throw new EspalierError('invalid', `The experiment has ${total} finished runs. A verdict compares ${mostCompared} or fewer.`)
  if (rows.length === 0)
    throw new EspalierError('invalid', `The experiment ${experiment} has no finished runs. Add runs to it first, or wait for them.`)
  // `runsByModel` puts the content that was used most recently first.
  const [latest, ...others] = runsByModel((await call('compare.get', { ids: rows.map(({ id }) => id) })).runs).values()
  if (!latest)
    throw new EspalierError('invalid', `The experiment ${experiment} has no run of a model to judge. Add pruning runs to it first.`)
  const models = new Set([latest, ...others].map(({ model }) => model))
  if (models.size > 1)
    throw new EspalierError(
      'invalid',
      `The experiment prunes ${models.size} models. A verdict is about one model. Make an experiment for each.`,
    )
  for (const { name, runs } of others) {
    const pruned = runs.filter(isPruned).length
    if (pruned > 0) console.error(`Left out: ${plural(pruned, 'pruned run')} of ${printable(name)}.`)
  }
  return latest.runs
}

/** Finds a cost by its title in `costsOf`, or by the name of its measure if only one cost has it. */
function costNamed(name: string, costs: readonly Cost[]): Cost {
  const is = (text: string) => text.toLowerCase() === name.toLowerCase()
  const found = costs.filter(({ title }) => is(title))
  const [cost, other] = found.length > 0 ? found : costs.filter(({ id }) => is(id.split('/')[0] ?? id))
  const known = costs.map(({ title }) => `"${title}"`).join(', ')
  if (!cost) throw new EspalierError('usage', `No cost that dense and pruned runs share is called "${name}". Choose one of: ${known}.`)
  if (other) throw new EspalierError('usage', `Several costs are called "${name}". Choose one of: ${known}.`)
  return cost
}

function print(worth: Worth, cost: Cost): void {
  const { rows, duels, fronts, untested } = worth
  const deciding = fronts.filter(({ decides }) => decides)
  printTable(
    [
      'FILE',
      cost === fileSize ? 'MB' : cost.title.toUpperCase(),
      ...fronts.map(({ kind, decides }) => (decides ? `${kind} (decides)` : kind)),
      'LOOPS',
      'AGAINST',
      ...deciding.map(({ kind }) => `DIFFERENCE ON ${kind.toUpperCase()}`),
      'RESULT',
    ],
    [...rows]
      .sort((a, b) => (cost.lowerIsBetter ? b.cost.mean - a.cost.mean : a.cost.mean - b.cost.mean))
      .map((row) => {
        const duel = duels.find(({ pruned }) => pruned === row)
        const qualities = fronts.map((front) => qualityText(row, front))
        const shown = cost === fileSize ? Number((row.cost.mean / 1e6).toPrecision(4)) : costText(row.cost.mean, cost)
        const against = deciding.map(({ kind }) => (duel ? (duelText(duel, kind)?.text ?? null) : null))
        const [rival, result] = [duel?.rival?.name ?? null, duel ? outcomeText(duel) : null]
        return [row.name, shown, ...qualities, showPercent(row.loops), rival, ...against, result]
      }),
  )
  console.log(`\n${[...verdictTexts(worth), ...untested].map(printable).join('\n')}`)
}
