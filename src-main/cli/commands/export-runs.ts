import { EspalierError } from '#contract/errors.ts'
import { commonFlags, readFlags } from './flags.ts'
import { deliver } from './output/deliver.ts'
import { type CommandDoor, withWorkbench } from './with-workbench.ts'

const formats = ['json', 'csv', 'markdown', 'latex'] as const
type Format = (typeof formats)[number]

const flags = {
  ...commonFlags,
  format: { type: 'string', default: 'json' },
  paths: { type: 'boolean', default: false },
  output: { type: 'string', short: 'o' },
} as const

/** Runs `espalier runs export`. Returns the exit code. */
export async function exportRuns(parameters: string[]): Promise<number> {
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
