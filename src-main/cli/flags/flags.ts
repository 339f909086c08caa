import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import { EspalierError } from '#contract/errors.ts'
import { flagTable } from './flag-table.ts'
import { type ReadValue, splitList } from './flag-values.ts'

type Flag = (typeof flagTable)[keyof typeof flagTable]

/** The type of a flag's value: a boolean, one value if given, or a list that may be empty. */
type ValueOf<F extends Flag> = F extends { takes: 'nothing' }
  ? boolean
  : F extends { takes: 'one'; read: ReadValue<infer T> }
    ? T | undefined
    : F extends { read: ReadValue<infer T> }
      ? readonly T[]
      : never

/** The flags of one command as typed values. */
export type Flags = { readonly [Name in keyof typeof flagTable]: ValueOf<(typeof flagTable)[Name]> }

export const flagNames = Object.keys(flagTable)

const parserOptions: ParseArgsOptionsConfig = Object.fromEntries(
  Object.entries(flagTable).map(([name, { takes }]) => [
    name,
    {
      type: takes === 'nothing' ? 'boolean' : 'string',
      multiple: takes === 'list' || takes === 'many',
      ...(name === 'help' ? { short: 'h' } : {}),
    },
  ]),
)

/** Parses all flags once. Throws `usage` for an unknown flag, with a similar flag as a suggestion, and for a value that is not allowed. */
export function parseFlags(arguments_: readonly string[]): Flags {
  const args = joinNegative(arguments_.map(underscored))
  const given = parse(args)
  return Object.fromEntries(Object.entries(flagTable).map(([name, flag]) => [name, readFlag(name, flag, given[name])])) as Flags
}

type Given = string | boolean | (string | boolean)[] | undefined

function readFlag(name: string, flag: Flag, given: Given): unknown {
  if (flag.takes === 'nothing') return given === true
  if (flag.takes === 'one') return given === undefined ? undefined : flag.read(String(given), name)
  const texts = [given ?? []].flat().map(String)
  return (flag.takes === 'list' ? texts.flatMap(splitList) : texts).map((text) => flag.read(text, name))
}

/** Converts `--dash-spelling=x` to `--dash_spelling=x`; values stay unchanged. */
function underscored(argument: string): string {
  const match = /^--[^=]+/.exec(argument)
  return match ? `--${match[0].slice(2).replaceAll('-', '_')}${argument.slice(match[0].length)}` : argument
}

/** Joins a value that begins with a minus (`--num_prune -1`) to its flag, as the parser requires. */
function joinNegative(arguments_: readonly string[]): string[] {
  const joined: string[] = []
  for (const argument of arguments_) {
    const last = joined.at(-1)
    if (/^-\d/.test(argument) && last?.startsWith('--') && !last.includes('=')) joined[joined.length - 1] = `${last}=${argument}`
    else joined.push(argument)
  }
  return joined
}

function parse(args: string[]): Record<string, Given> {
  try {
    return parseArgs({ args, options: parserOptions, allowPositionals: false, strict: true }).values
  } catch (error) {
    throw new EspalierError('usage', explain(error as Error & { code?: string }, args))
  }
}

function explain(error: Error & { code?: string }, args: readonly string[]): string {
  const named = /--[\w]+/.exec(error.message)?.[0].slice(2)
  if (error.code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') {
    const stray = args.find((argument) => !argument.startsWith('-')) ?? ''
    return `"${stray}" is neither a command nor a flag. A command must be the first word, and flags begin with --. See espalier --help.`
  }
  if (named && !flagNames.includes(named)) {
    const near = closest(named, flagNames)
    return `Unknown flag --${named}.${distance(near, named) <= 3 ? ` Did you mean --${near}?` : ''} See espalier --help.`
  }
  return `${error.message.split('\n')[0]} See espalier --help.`
}
