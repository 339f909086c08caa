import { EspalierError } from '#contract/errors.ts'
import { intervalMeaning } from '#contract/judging/bradley-terry.ts'
import { deliver, printJson, printTable, showMoment, showPercent } from './output/print.ts'
import { commonFlags, commonHelp, readFlags } from './read-flags.ts'
import { commandOf } from './run-command.ts'
import { withWorkbench } from './with-workbench.ts'

const help = `espalier judge list
espalier judge show ID
espalier judge export ID [--format json|csv] [--output FILE]

Lists, shows and exports the results of blind judgings: standings with 95 % intervals, and every vote. Create judgings on the
page "Judge".
${intervalMeaning.replaceAll('. ', '.\n')}

  --format FORMAT      json (everything) or csv (the votes)
  --output FILE        where to write (default: standard output); an existing file is not overwritten
${commonHelp}`

const list = async (parameters: string[]): Promise<number> => {
  const { values } = readFlags(parameters, commonFlags, { least: 0, most: 0, name: '' })
  const judgings = await withWorkbench(values, ({ call }) => call('judgings.list', {}))
  if (values.json) printJson(judgings)
  else
    printTable(
      ['ID', 'VOTES', 'PAIRS', 'TITLE', 'CREATED (UTC)'],
      judgings.map(({ id, votes, pairs, title, createdAt }) => [id, votes, pairs, title, showMoment(createdAt)]),
    )
  return 0
}

const show = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(parameters, commonFlags, { least: 1, most: 1, name: 'The judging’s id' })
  const result = await withWorkbench(values, ({ call }) => call('judgings.result', { id: words[0] as string }))
  if (values.json) printJson(result)
  else
    printTable(
      ['MODEL', 'WON', 'LOST', 'TIES', 'BOTH BAD', 'CHANCE TO WIN', '95 % FROM', 'TO'],
      result.standings.map(({ name, wins, losses, ties, bothBad, winRate, winInterval }) => [
        name,
        wins,
        losses,
        ties,
        bothBad,
        ...[winRate, winInterval.low, winInterval.high].map(showPercent),
      ]),
    )
  return 0
}

const exportOne = async (parameters: string[]): Promise<number> => {
  const flags = { ...commonFlags, format: { type: 'string', default: 'json' }, output: { type: 'string', short: 'o' } } as const
  const { values, words } = readFlags(parameters, flags, { least: 1, most: 1, name: 'The judging’s id' })
  const format = (['json', 'csv'] as const).find((one) => one === values.format)
  if (!format) throw new EspalierError('usage', `--format ${values.format} is not known. Choose json or csv.`)
  const { content } = await withWorkbench(values, ({ call }) => call('judgings.export', { id: words[0] as string, format }))
  await deliver(content, values.output)
  return 0
}

export const judge = commandOf('judge', help, { list, show, export: exportOne })
