import { toErrorMessage } from '#contract/errors.ts'
import { runServeCommand } from './command.ts'

/** The entry of the built server. */
await runServeCommand(process.argv.slice(2)).catch((thrown: unknown) => {
  console.error(`espalier serve: ${toErrorMessage(thrown).message}`)
  process.exitCode = 1
})
