import { toErrorMessage } from '#contract/errors.ts'
import { runServeCommand } from './serve-command.ts'

await runServeCommand(process.argv.slice(2)).catch((thrown: unknown) => {
  console.error(`espalier serve: ${toErrorMessage(thrown).message}`)
  process.exitCode = 1
})
