import { stderr, stdout } from 'node:process'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Problem } from '#contract/runs/request-preview.ts'
import { version } from '#contract/version.ts'
import { printable, printableLines } from './commands/output/print.ts'
import { exitCodeOf } from './exit-codes.ts'
import { flagNames, parseFlags } from './flags/flags.ts'
import { help } from './flags/help.ts'

/** Runs a command line and returns its exit code. */
export async function runCommandLine(arguments_: readonly string[]): Promise<number> {
  try {
    return await dispatch(arguments_)
  } catch (error) {
    const { code, message } = toErrorMessage(error)
    stderr.write(`espalier: ${printable(message)}${printableLines(flagHints(error))}\n`)
    if (code === 'internal' && process.env.ESPALIER_DEBUG) stderr.write(`${(error as Error).stack}\n`)
    return exitCodeOf(code)
  }
}

async function dispatch([first, ...rest]: readonly string[]): Promise<number> {
  if (first === undefined) {
    stdout.write(help)
    return 2
  }
  if (first === 'methods') return (await import('./methods.ts')).describeMethods(rest)
  if (!first.startsWith('-')) return runCommand(first, rest)
  const flags = parseFlags([first, ...rest])
  if (flags.help) stdout.write(help)
  else if (flags.version) stdout.write(`${version}\n`)
  else return (await import('./prune.ts')).prune(flags)
  return 0
}

/** The commands are imported on demand, because they load the code that opens the history. */
async function runCommand(name: string, rest: string[]): Promise<number> {
  const { commands } = await import('./commands/index.ts')
  if (!Object.hasOwn(commands, name)) {
    throw new EspalierError(
      'usage',
      `Unknown command "${name}". Commands are methods, ${Object.keys(commands).join(', ')}; or give flags such as --${flagNames[0]}. See espalier --help.`,
    )
  }
  return commands[name as keyof typeof commands](rest)
}

/** The flag behind a field of a request; `$1` is the pattern's match. */
const flagsOf: readonly [pattern: RegExp, flag: string][] = [
  [/^options\.(\w+)/, '--option $1=VALUE'],
  [/^calibration/, '--calibration_data'],
  [/^repair/, '--repair_data'],
  [/^recover/, '--recover_data'],
  [/^measures\.\d+\.data/, '--eval_data'],
  [/^measures\.\d+$/, '--task_folder'],
  [/^memoryBytes/, '--memory'],
  [/^(?:amount|combinations)/, '--sparsity, --fit'],
  [/^(folder|replace)/, '--save'],
  [/^replace/, '--replace'],
  [/^format/, '--format'],
]

/** Returns a sentence with the flags that set an error's fields, or an empty string if there are none. */
function flagHints(thrown: unknown): string {
  if (!(thrown instanceof EspalierError)) return ''
  const problems = (thrown.details?.problems ?? []) as readonly Problem[]
  const flags = problems.flatMap(({ field, code }) => {
    const matching = flagsOf.flatMap(([pattern, flag]) => {
      const found = pattern.exec(field)
      return found ? flag.replace('$1', found[1] ?? '') : []
    })
    return code === 'unreachable' ? [...matching, '--local_datasets'] : matching
  })
  const distinct = [...new Set(flags)]
  return distinct.length === 0 ? '' : ` See ${distinct.join(', ')}.`
}
