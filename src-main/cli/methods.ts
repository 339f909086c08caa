import { stdout } from 'node:process'
import { parseArgs } from 'node:util'
import { EspalierError } from '#contract/errors.ts'
import type { OptionField } from '#contract/pruning/methods.ts'
import { ablationTitles, methodTitles, retirementOf } from '#contract/titles.ts'
import { withWorkbench } from './commands/with-workbench.ts'

/** `espalier methods [NAME] [--json]`. */
export async function describeMethods(arguments_: string[]): Promise<number> {
  const { values, positionals } = parse(arguments_)
  const [name] = positionals
  if (name !== undefined && !Object.hasOwn({ ...methodTitles, ...ablationTitles }, name))
    throw new EspalierError(
      'usage',
      retirementOf(name) ??
        `Unknown method "${name}". Choose one of ${[...Object.keys(methodTitles), ...Object.keys(ablationTitles)].join(', ')}.`,
    )
  const { methods, ablations } = await withWorkbench({ json: false }, ({ call }) => call('methods.list', {}))
  const chosen = name === undefined ? methods : [...methods, ...ablations].filter((method) => method.id === name)
  if (values.json) {
    stdout.write(`${JSON.stringify(name === undefined ? chosen : chosen[0], null, 2)}\n`)
    return 0
  }
  for (const { id, title, paper, own, unit, summary, options } of chosen) {
    stdout.write(
      `${id}  ${title} (${own ? 'our own, based on ' : ''}arXiv ${paper}), removes: ${unit}\n  ${summary}\n${options.map(describeOption).join('')}\n`,
    )
  }
  return 0
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: { json: { type: 'boolean' } }, allowPositionals: true })
  } catch (error) {
    throw new EspalierError('usage', `espalier methods [NAME] [--json]: ${(error as Error).message}`)
  }
}

function describeOption({ name, help, default: value, minimum, maximum, choices, unit, empty }: OptionField): string {
  const range = choices
    ? choices.join(', ')
    : [minimum === undefined ? '' : `from ${minimum}`, maximum === undefined ? '' : `to ${maximum}`].filter(Boolean).join(' ')
  const facts = [range, unit ?? '', value === undefined ? (empty ?? 'automatic') : `default ${JSON.stringify(value)}`]
    .filter(Boolean)
    .join('; ')
  return `    --option ${name}=…  ${help} (${facts})\n`
}
