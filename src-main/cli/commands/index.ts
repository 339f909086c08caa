import { runServeCommand, serveHelp } from '#server/serve-command.ts'
import { answer } from './answer.ts'
import { benchFile } from './bench-file.ts'
import { cluster } from './cluster.ts'
import { devices } from './devices.ts'
import { judge } from './judge.ts'
import { models } from './models.ts'
import { questions } from './questions.ts'
import { recover } from './recover.ts'
import { repair } from './repair.ts'
import { report } from './report.ts'
import { command } from './run-command.ts'
import { runRequest } from './run-request.ts'
import { runs } from './runs.ts'
import { worth } from './worth.ts'

const serve = command('serve', serveHelp, async (given) => {
  await runServeCommand(given)
  return 0
})

/** The workbench's commands. Each gets the arguments after its name and returns the exit code. */
export const commands = {
  serve,
  devices,
  'bench-file': benchFile,
  runs,
  models,
  repair,
  recover,
  report,
  worth,
  questions,
  answer,
  judge,
  cluster,
  'run-request': runRequest,
}
