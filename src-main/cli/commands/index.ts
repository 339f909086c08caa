import { runServeCommand, serveHelp } from '#server/command.ts'
import { models, modelsHelp } from './models.ts'
import { repair, repairHelp } from './repair.ts'
import { guarded, type Verb } from './run-command.ts'
import { runRequest, runRequestHelp } from './run-request.ts'
import { runs, runsHelp } from './runs.ts'

const serve: Verb = (parameters) =>
  guarded('serve', serveHelp, parameters, async (given) => {
    await runServeCommand(given)
    return 0
  })

/** The workbench's commands: each takes the words after its name and gives the exit code. */
export const commands = { serve, runs, models, repair, 'run-request': runRequest }
export const help: Readonly<Record<keyof typeof commands, string>> = {
  serve: serveHelp,
  runs: runsHelp,
  models: modelsHelp,
  repair: repairHelp,
  'run-request': runRequestHelp,
}
