import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { exitCodeOf } from '../exit-codes.ts'

export type Verb = (parameters: string[]) => Promise<number>

/** Does a command's work and turns errors into one line and an exit code. */
export async function guarded(name: string, help: string, parameters: string[], work: Verb): Promise<number> {
  if (parameters.includes('--help') || parameters.includes('-h')) {
    console.log(help)
    return 0
  }
  try {
    return await work(parameters)
  } catch (thrown) {
    const { code, message } = toErrorMessage(thrown)
    console.error(`espalier ${name}: ${message}`)
    if (code === 'usage') console.error(`See espalier ${name.split(' ')[0]} --help.`)
    return exitCodeOf(code)
  }
}

/** A command with subcommands: its first argument selects one. */
export function commandOf(name: string, help: string, verbs: Readonly<Record<string, Verb>>): Verb {
  return (parameters) =>
    guarded(name, help, parameters, async ([verb, ...rest]) => {
      if (verb === undefined) {
        console.log(help)
        return 2
      }
      if (!Object.hasOwn(verbs, verb))
        throw new EspalierError('usage', `There is no "${verb}". Choose one of ${Object.keys(verbs).join(', ')}.`)
      return (verbs[verb] as Verb)(rest)
    })
}
