import { mostCompared } from '#contract/comparison/calls.ts'
import { type Worth, worthOf } from '#contract/comparison/verdict.ts'
import { outcomeText } from '#contract/comparison/worth.ts'
import { EspalierError } from '#contract/errors.ts'
import { commonFlags, commonHelp, readFlags } from './flags.ts'
import { printJson, printTable, showPercent } from './print.ts'
import { guarded, type Verb } from './run-command.ts'
import { type CommandDoor, withWorkbench } from './with-workbench.ts'

export const worthHelp = `espalier worth EXPERIMENT

Whether pruning is worth it: each pruned file against the best dense file at most 1 % larger.
Only kinds of text that no choice saw decide. Make the files to compare with --weights.

${commonHelp}`

export const worth: Verb = (parameters) =>
  guarded('worth', worthHelp, parameters, async (given) => {
    const { values, words } = readFlags(given, commonFlags, { least: 1, most: 1, name: 'The experiment’s id' })
    const found = await withWorkbench(values, (door) => read(door, words[0] as string))
    if (values.json) printJson(found)
    else print(found)
    return 0
  })

async function read({ call }: CommandDoor, experiment: string): Promise<Worth> {
  await call('experiments.get', { id: experiment })
  const { rows, total } = await call('runs.query', { experiment, columns: [], limit: mostCompared })
  if (total > mostCompared)
    throw new EspalierError('invalid', `The experiment has ${total} runs. A verdict takes ${mostCompared} or fewer.`)
  if (rows.length === 0) throw new EspalierError('invalid', `The experiment ${experiment} has no runs. Add runs to it first.`)
  const { runs } = await call('compare.get', { ids: rows.map(({ id }) => id) })
  const models = new Set(runs.map(({ model }) => model.name))
  if (models.size > 1)
    throw new EspalierError('invalid', `The experiment has ${models.size} models. A verdict is about one: make an experiment for each.`)
  return worthOf(runs)
}

function print({ rows, duels, fronts, sentence, untested }: Worth): void {
  const kinds = fronts.map(({ kind }) => kind)
  printTable(
    ['FILE', 'MB', ...fronts.map(({ kind, decides }) => (decides ? `${kind} (decides)` : kind)), 'LOOPS', 'AGAINST', 'RESULT'],
    [...rows]
      .sort((a, b) => b.cost.mean - a.cost.mean)
      .map((row) => {
        const duel = duels.find(({ pruned }) => pruned === row)
        const perplexities = kinds.map((kind) => (row.quality[kind] ? Number(row.quality[kind].mean.toPrecision(4)) : null))
        const megabytes = Number((row.cost.mean / 1e6).toPrecision(4))
        return [row.name, megabytes, ...perplexities, showPercent(row.loops), duel?.rival?.name ?? null, duel ? outcomeText(duel) : null]
      }),
  )
  console.log(`\n${[sentence, ...untested].join('\n')}`)
}
