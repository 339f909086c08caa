import { expect, test } from 'vitest'
import { commands } from '#cli/commands/index.ts'
import { checkFlags } from '#cli/flags/check-flags.ts'
import { parseFlags } from '#cli/flags/flags.ts'
import { codeIn, commandsIn, documents, readDocument } from './markdown.ts'

/** Espalier's commands in blocks and within lines; `test/shown-commands.test.ts` checks those of npm and node. */
const shown = documents.flatMap((document) => {
  const text = readDocument(document)
  const inline = codeIn(text).filter((code) => /^(espalier|npm run (-s )?espalier --) \S/.test(code) && !/…/.test(code))
  return [...commandsIn(text), ...inline].map((command) => ({ document, command }))
})

/** The words after `espalier`, however it is called; undefined for another program. */
function wordsOfEspalier(command: string): string[] | undefined {
  const match = /^(?:espalier|npm run (?:-s )?espalier --) (.+)$/.exec(command)
  return match?.[1]?.split(' ').filter((word) => word !== '[flags]')
}

/** Throws for a command or flag that Espalier does not have. */
function check(words: readonly string[]): void {
  const [first = '', verb = ''] = words
  if (first.startsWith('-')) {
    const flags = parseFlags(words)
    if (flags.model) checkFlags(flags)
    return
  }
  if (first === 'methods') return
  const help = commands[first as keyof typeof commands]?.help
  if (!help) throw new Error(`There is no command "${first}".`)
  if (/^[a-z]+$/.test(verb) && !help.includes(`espalier ${first} ${verb}`)) throw new Error(`"espalier ${first}" has no "${verb}".`)
  for (const flag of words.flatMap((word) => /^--[\w-]+/.exec(word)?.[0] ?? []))
    if (!new RegExp(`${flag}(?![\\w-])`).test(help) && flag !== '--help') throw new Error(`"espalier ${first}" has no flag ${flag}.`)
}

test.each(shown.flatMap(({ document, command }) => (wordsOfEspalier(command) ? [{ document, command }] : [])))(
  '$document shows a command that parses: $command',
  ({ command }) => {
    expect(() => check(wordsOfEspalier(command) ?? [])).not.toThrow()
  },
)

test('a wrong command, verb or flag is found', () => {
  expect(() => check(['--model=sample', '--prunning_method=2ssp'])).toThrow('Unknown flag --prunning_method')
  expect(() => check(['--model=sample', '--pruning_method=2ssp3', '--sparsity=0.5'])).toThrow('2ssp3')
  expect(() => check(['clusters', 'list'])).toThrow('There is no command "clusters"')
  expect(() => check(['cluster', 'delete', 'lab'])).toThrow('has no "delete"')
  expect(() => check(['report', 'RUN', '--outputs', 'x'])).toThrow('has no flag --outputs')
})
