import { basename } from 'node:path'
import { commands } from '#cli/commands/index.ts'
import { commonHelp } from '#cli/commands/read-flags.ts'
import { flagGroups, flagTable } from '#cli/flags/flag-table.ts'
import { glossary } from '#contract/glossary.ts'
import type { OptionField } from '#contract/pruning/methods.ts'
import { runDocument } from '#contract/runs/run.ts'
import { datasetTitles, everyTaskTitle, ggufTypeTitles, type MethodId } from '#contract/titles.ts'
import { families } from '#engine/architectures/index.ts'
import { bundledTexts } from '#engine/data/bundled.ts'
import { formats } from '#engine/export/index.ts'
import { methods } from '#engine/pruning/registry.ts'
import { ablationEntries, methodEntries } from '#engine/tasks/catalogue.ts'
import { type Parts, readFile } from './generated.ts'
import { entriesOf } from './registries.ts'

/** Every part of the documentation generated from the code, by the name in its markers. */
export const tables: Parts = {
  methods: () =>
    toTable(
      ['method', 'name', 'description', 'paper'],
      methodEntries().map(({ id, title, summary, paper, own }) => [
        title,
        code(id),
        summary,
        `${own ? 'our own, based on ' : ''}[${paper}](https://arxiv.org/abs/${paper})`,
      ]),
    ),
  'method-files': () =>
    toTable(
      ['file', 'method', 'what it does', 'uses'],
      entriesOf('methods').map(({ file, id, title }) => [
        code(basename(file)),
        title,
        methods[id as MethodId].summary,
        foldersIn(readFile(file)).map(code).join(', '),
      ]),
    ),
  ablations: () =>
    toTable(
      ['ablation', 'name', 'description'],
      ablationEntries().map(({ id, title, summary }) => [title, code(id), summary]),
    ),
  options: () =>
    [...methodEntries(), ...ablationEntries()]
      .map(
        ({ id, options }) => `### Options of \`${id}\`\n\n${toTable(['option', 'default', 'values', 'meaning'], options.map(toOptionRow))}`,
      )
      .join('\n\n'),
  families: () =>
    toTable(
      ['family', '`model_type`', 'examples'],
      Object.entries(families).map(([id, { title, examples }]) => [title, code(id), examples]),
    ),
  formats: () =>
    toTable(
      ['format', 'name', 'description'],
      Object.entries(formats).map(([id, { title, summary }]) => [title, code(id), summary]),
    ),
  'gguf-types': () =>
    toTable(
      ['type', 'description'],
      Object.entries(ggufTypeTitles).map(([id, title]) => [code(id), title]),
    ),
  texts: () =>
    toTable(
      ['text', 'name', 'description'],
      [
        ...Object.entries(bundledTexts).map(([id, { title, summary }]) => [title, code(id), summary]),
        ...Object.entries(datasetTitles).map(([id, title]) => [title, code(id), 'Downloaded when first used.']),
      ],
    ),
  tasks: () =>
    toTable(
      ['task', 'name'],
      Object.entries(everyTaskTitle).map(([id, title]) => [title, code(id)]),
    ),
  flags: () =>
    Object.keys(flagGroups)
      .map((group) => `### ${group}\n\n${toTable(['flag', 'meaning'], flagRows(group))}`)
      .join('\n\n'),
  commands: () =>
    Object.entries(commands)
      .map(([name, { help: text }]) => `### espalier ${name}\n\n${toBlock(text.replace(`\n${commonHelp}`, ''))}`)
      .join('\n\n'),
  glossary: () =>
    Object.values(glossary)
      .map(({ title, text }) => `**${title}**: ${text}`)
      .join('\n\n'),
  'common-flags': () => toBlock(commonHelp),
  'document-fields': () =>
    toTable(
      ['field', 'present', 'meaning'],
      Object.entries(runDocument.shape).map(([name, field]) => [
        code(name),
        field.isOptional() ? 'sometimes' : 'always',
        describe(name, field.description),
      ]),
    ),
}

/** The other folders that a file imports from. */
const foldersIn = (text: string) => [...new Set([...text.matchAll(/ from '(\.\.\/[\w-]+)\//g)].map((match) => match[1] ?? ''))]

const toBlock = (text: string) => `\`\`\`text\n${text}\n\`\`\``
const code = (text: string) => `\`${text}\``

/** A Markdown table with columns as wide as the formatter makes them, with bars in cells escaped. */
function toTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')))
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) => `| ${widths.map((width, column) => (row[column] ?? '').padEnd(width)).join(' | ')} |`
  const [first = [], ...others] = cells
  return [line(first), line(widths.map((width) => '-'.repeat(width))), ...others.map(line)].join('\n')
}

function flagRows(group: string): string[][] {
  const flags = Object.entries(flagTable).filter(([, flag]) => flag.group === group)
  return flags.map(([name, { value, help }]) => [code(`--${name} ${value}`.trim()), help])
}

function toOptionRow({ name, kind, help: meaning, default: value, minimum, above, maximum, choices, unit, empty }: OptionField): string[] {
  const bounds = [
    minimum === undefined ? '' : `from ${minimum}`,
    above === undefined ? '' : kind === 'integer' ? `from ${above + 1}` : `above ${above}`,
    maximum === undefined ? '' : `to ${maximum}`,
  ]
  const preset = value === undefined ? (empty ?? 'automatic') : [code(JSON.stringify(value)), unit].filter(Boolean).join(' ')
  return [
    code(name),
    preset,
    choices ? choices.map((choice) => code(String(choice))).join(', ') : bounds.filter(Boolean).join(' '),
    meaning,
  ]
}

/** Throws for a missing description, which would leave a cell empty. */
function describe(name: string, description: string | undefined): string {
  if (!description) throw new Error(`Field "${name}" of runDocument has no description. Add .describe('…') to it in src-main/contract.`)
  return description
}
