import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { stderr, stdout } from 'node:process'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { RunDocument } from '#contract/run.ts'
import type { RunRequest } from '#contract/run-request.ts'
import { toCsv, toLatex } from '#contract/table-text.ts'
import { openSpec } from '#engine/model/model.ts'
import { executeRun, type RunHost, releaseModel } from '#engine/run.ts'
import { openHub } from '#hub/hub.ts'
import type { Flags } from './flags.ts'
import { ProgressLine } from './progress-line.ts'
import { checkFlags, commandedRuns } from './requests.ts'
import { describeRun, resultTable, toText } from './result-table.ts'
import { sampleModel } from './sample.ts'
import { StepJournal } from './step-journal.ts'

/** Runs what the flags ask for: baseline first, then methods x amounts x seeds, and prints it. */
export async function prune(flags: Flags): Promise<number> {
  checkFlags(flags)
  const line = new ProgressLine()
  const hub = await openHub(flags.cache_dir === undefined ? {} : { cacheFolder: resolve(flags.cache_dir) })
  const fetchFile: NonNullable<RunHost['fetchFile']> = (file) => hub.fetchFile(file, { report: (progress) => line.show(progress) })
  const model = await locateModel(flags, hub, line)
  const { checkpoint, spec } = await openSpec(model)
  await checkpoint.close()
  const { requests, sweep } = commandedRuns(flags, model, spec)
  const journal = await StepJournal.open(requests)
  if (journal.size > 0) stderr.write(`Going on from ${journal.size} finished steps of an earlier start.\n`)
  const documents: RunDocument[] = []
  for (const [index, request] of requests.entries()) {
    const document = await runOne(request, { steps: journal.stepsOf(index), line, fetchFile, sweep })
    if (!document) continue
    documents.push(document)
    if (!flags.json) printRun(document)
  }
  await releaseModel()
  journal.remove()
  if (documents.length === 0) throw new EspalierError('infeasible', 'None of the amounts can be reached on this model.')
  printAll(documents, requests, flags)
  return 0
}

async function locateModel(flags: Flags, hub: Awaited<ReturnType<typeof openHub>>, line: ProgressLine): Promise<string> {
  const name = flags.model ?? ''
  if (existsSync(name)) return resolve(name)
  if (name === 'sample') return sampleModel
  if (!/^[\w.-]+\/[\w.-]+$/.test(name)) throw new EspalierError('not-found', `There is no model at "${name}". Give a folder, a name on the hub such as org/name, or "sample" for the bundled model.`)
  const folder = await hub.fetchModel(name, flags.revision ?? 'main', { report: (progress) => line.show(progress) })
  line.clear()
  return folder
}

interface RunTools {
  readonly steps: RunHost['steps']
  readonly line: ProgressLine
  readonly fetchFile: NonNullable<RunHost['fetchFile']>
  readonly sweep: boolean
}

async function runOne(request: RunRequest, { steps, line, fetchFile, sweep }: RunTools): Promise<RunDocument | undefined> {
  const host: RunHost = {
    steps,
    fetchFile,
    signal: new AbortController().signal,
    emit: (event) => {
      if (event.type === 'progress') line.show(event.progress)
    },
  }
  try {
    return await executeRun(request, host)
  } catch (error) {
    if (!sweep || toErrorMessage(error).code !== 'infeasible') throw error
    stderr.write(`Left out: ${toErrorMessage(error).message}\n`)
    return undefined
  } finally {
    line.clear()
  }
}

function printRun(document: RunDocument): void {
  stdout.write(`${describeRun(document)}\n`)
  for (const { prompt, text } of document.answers ?? []) stdout.write(`\n> ${prompt}\n${text}\n`)
  stdout.write('\n')
}

/** The table of all runs, or their documents: one alone stands by itself. A baseline nobody asked for is no document. */
function printAll(documents: readonly RunDocument[], requests: readonly RunRequest[], flags: Flags): void {
  const table = resultTable(documents)
  if (flags.output) {
    mkdirSync(flags.output, { recursive: true })
    writeFileSync(join(flags.output, 'results.csv'), toCsv(table))
    writeFileSync(join(flags.output, 'results.tex'), toLatex(table))
    writeFileSync(join(flags.output, 'results.json'), `${JSON.stringify(documents)}\n`)
  }
  if (!flags.json) {
    stdout.write(toText(table))
    return
  }
  const asked = flags.dense || requests.length === 1 ? documents : documents.filter((document) => document.method !== 'dense')
  stdout.write(`${JSON.stringify(asked.length === 1 ? asked[0] : asked)}\n`)
}
