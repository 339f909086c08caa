import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { exitCodeOf } from '../exit-codes.ts'
import { printable } from './output/print.ts'

export type Verb = (parameters: string[]) => Promise<number>

/** A command of the workbench with its help text. */
export type Command = Verb & { readonly help: string }

/** Makes a command that prints its help on request, and turns errors into one line and an exit code. */
export function command(name: string, help: string, work: Verb): Command {
  const run: Verb = async (parameters) => {
    if (parameters.includes('--help') || parameters.includes('-h')) {
      console.log(help)
      return 0
    }
    try {
      return await work(parameters)
    } catch (thrown) {
      const { code, message } = toErrorMessage(thrown)
      console.error(`espalier ${name}: ${printable(message)}`)
      if (code === 'usage') console.error(`See espalier ${name} --help.`)
      return exitCodeOf(code)
    }
  }
  return Object.assign(run, { help })
}

/** Makes a command with subcommands. Its first argument selects one. */
export function commandOf(name: string, help: string, verbs: Readonly<Record<string, Verb>>): Command {
  return command(name, help, async ([verb, ...rest]) => {
    if (verb === undefined) {
      console.log(help)
      return 2
    }
    if (!Object.hasOwn(verbs, verb))
      throw new EspalierError('usage', `Unknown subcommand "${verb}". Choose one of ${Object.keys(verbs).join(', ')}.`)
    return (verbs[verb] as Verb)(rest)
  })
}
