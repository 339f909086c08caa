import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { readSmallFile } from '#runtime/small-file.ts'

/** Flags of every command that talks to the workbench. */
export const commonFlags = {
  server: { type: 'string' },
  'token-file': { type: 'string' },
  data: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const

export const commonHelp = `  --json               print JSON instead of a table
  --server ADDRESS     use a running "espalier serve" at this address. Give the token apart: other users can read the
                       command line (or set ESPALIER_SERVER to the whole line that it printed)
  --token-file FILE    the token for --server; "-" reads it from standard input (or set ESPALIER_TOKEN)
  --data FOLDER        the data folder (default: ESPALIER_HOME, else the system's application data folder)`

export interface CommonValues {
  server?: string | undefined
  'token-file'?: string | undefined
  data?: string | undefined
  json: boolean
}

/** Parses a command's arguments. Throws `usage` for an unknown flag, a missing value or a wrong number of words. */
export function readFlags<T extends ParseArgsOptionsConfig>(
  parameters: string[],
  options: T,
  words: { least: number; most: number; name: string },
) {
  const { values, positionals } = parse(parameters, options)
  if (positionals.length < words.least) throw new EspalierError('usage', `${words.name} is missing.`)
  if (positionals.length > words.most) throw new EspalierError('usage', `Unexpected argument "${positionals[words.most]}".`)
  return { values, words: positionals }
}

function parse<T extends ParseArgsOptionsConfig>(parameters: string[], options: T) {
  try {
    return parseArgs({ args: parameters, options, strict: true, allowPositionals: true })
  } catch (thrown) {
    throw new EspalierError('usage', toErrorMessage(thrown).message)
  }
}

/** The number that a flag gives; NaN if it gives none, which `Number` would take for 0. */
export const numberOf = (text: string): number => Number(text.trim() || Number.NaN)

/** Parses a whole number from `least` to `most`. Throws `usage`. */
export function readCount(text: string, flag: string, most: number, least = 1): number {
  const count = numberOf(text)
  if (!Number.isInteger(count) || count < least || count > most)
    throw new EspalierError('usage', `${flag} is "${text}"; it must be a whole number from ${least} to ${most.toLocaleString('en')}.`)
  return count
}

/** Reads the text of a short file that a flag names. */
export async function readFlagFile(file: string, flag: string): Promise<string> {
  return readSmallFile(file, 1_000_000).catch((thrown: Error) => {
    throw new EspalierError('usage', `${flag}: ${thrown.message}`)
  })
}
