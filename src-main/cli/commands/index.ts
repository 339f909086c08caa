import { runServeCommand, serveHelp } from '#server/command.ts'
import { answer, answerHelp } from './answer.ts'
import { benchFile, benchFileHelp } from './bench-file.ts'
import { cluster, clusterHelp } from './cluster.ts'
import { devices, devicesHelp } from './devices.ts'
import { judge, judgeHelp } from './judge.ts'
import { models, modelsHelp } from './models.ts'
import { questions, questionsHelp } from './questions.ts'
import { recover, recoverHelp } from './recover.ts'
import { repair, repairHelp } from './repair.ts'
import { report, reportHelp } from './report.ts'
import { guarded, type Verb } from './run-command.ts'
import { runRequest, runRequestHelp } from './run-request.ts'
import { runs, runsHelp } from './runs.ts'
import { worth, worthHelp } from './worth.ts'

const serve: Verb = (parameters) =>
  guarded('serve', serveHelp, parameters, async (given) => {
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
export const help: Readonly<Record<keyof typeof commands, string>> = {
  serve: serveHelp,
  devices: devicesHelp,
  'bench-file': benchFileHelp,
  runs: runsHelp,
  models: modelsHelp,
  repair: repairHelp,
  recover: recoverHelp,
  report: reportHelp,
  worth: worthHelp,
  questions: questionsHelp,
  answer: answerHelp,
  judge: judgeHelp,
  cluster: clusterHelp,
  'run-request': runRequestHelp,
}
