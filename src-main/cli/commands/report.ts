import { EspalierError } from '#contract/errors.ts'
import { deliver } from './output/print.ts'
import { commonFlags, commonHelp, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'
import { withWorkbench } from './with-workbench.ts'

const help = `espalier report EXPERIMENT [--format html|markdown] [--title TEXT] [--paths] [--output FILE]
espalier report RUN… [--format html|markdown] [--title TEXT] [--paths] [--output FILE]

Writes one document on an experiment, or on runs to compare: settings, tables, charts, maps, divergence,
flipped questions, answers, votes, the environment, and commands to repeat it. The HTML file is self-contained.

  --format FORMAT      html or markdown (default: html)
  --title TEXT         heading of the report (default: the experiment's name, "Run NAME" or "Comparison of N runs")
  --paths              show full paths of this machine; otherwise only names of files and folders
  --output FILE        where to write (default: standard output); an existing file is not overwritten
${commonHelp}`

const formats = ['html', 'markdown'] as const
const flags = {
  ...commonFlags,
  format: { type: 'string', default: 'html' },
  title: { type: 'string' },
  paths: { type: 'boolean', default: false },
  output: { type: 'string', short: 'o' },
} as const

export const report = command('report', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 1, most: 200, name: 'The id of an experiment or of runs' })
  const format = formats.find((one) => one === values.format)
  if (!format) throw new EspalierError('usage', `--format ${values.format} is not known. Choose ${formats.join(' or ')}.`)
  const [first = ''] = words
  const subject = words.length === 1 && first.startsWith('exp-') ? { experiment: first } : { runs: words }
  const title = values.title === undefined ? {} : { title: values.title }
  const file = await withWorkbench(values, ({ call }) => call('reports.make', { ...subject, ...title, format, paths: values.paths }))
  await deliver(values.json ? `${JSON.stringify(file)}\n` : file.content, values.output)
  return 0
})
