import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { exit, stderr, stdout } from 'node:process'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { RunDocument } from '#contract/run.ts'
import type { RunRequest } from '#contract/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openSpec } from '#engine/model/model.ts'
import type { RunHost } from '#engine/run-steps.ts'
import { openHub } from '#hub/hub.ts'
import { sampleModelFolder } from '#services/sample-model.ts'
import { toCsv, toLatex } from '#services/table-text.ts'
import type { Flags } from './flags.ts'
import { openJournalRunner } from './journal-runner.ts'
import { ProgressLine } from './progress-line.ts'
import { checkFlags, commandedRuns } from './requests.ts'
import { describeRun, resultTable, toText } from './result-table.ts'
import type { Runner } from './runner.ts'
import { study } from './study.ts'

/** Runs what the flags ask for: baseline first, then methods x amounts x seeds, and prints it. */
export async function prune(flags: Flags): Promise<number> {
  checkFlags(flags)
  const line = new ProgressLine()
  const hub = await openHub(flags.cache_dir === undefined ? {} : { cacheFolder: resolve(flags.cache_dir) })
  const fetchFile: NonNullable<RunHost['fetchFile']> = (file) => hub.fetchFile(file, { report: (progress) => line.show(progress) })
  const model = await locateModel(flags, hub, line)
  const { checkpoint, spec } = await openSpec(model)
  await checkpoint.close()
  if (flags.ablation !== undefined) return study(flags, model, spec, line, fetchFile)
  const { requests, sweep } = commandedRuns(flags, model, spec)
  const runner = flags.no_history ? await openJournalRunner(requests, fetchFile) : await openHistory(requests, spec)
  closeOnInterrupt(runner)
  if (runner.goesOn) stderr.write('Going on from what an earlier start of this command finished.\n')
  const documents: RunDocument[] = []
  try {
    for (const [index, request] of requests.entries()) {
      const document = await runOne(runner, index, request, line, sweep)
      if (!document) continue
      documents.push(document)
      if (!flags.json) printRun(document)
    }
    await runner.finish()
  } finally {
    line.clear()
    await runner.close()
  }
  if (documents.length === 0) throw new EspalierError('infeasible', 'None of the amounts can be reached on this model.')
  printAll(documents, requests, flags)
  return 0
}

/** The history is loaded only when it is written to. */
async function openHistory(requests: readonly RunRequest[], { family }: DecoderSpec): Promise<Runner> {
  const { openHistoryRunner } = await import('./history-runner.ts')
  const methods = [...new Set(requests.map(({ method }) => method))].join(', ')
  return openHistoryRunner(requests, `${basename(requests[0]?.model ?? family)}: ${methods}`)
}

/** Steps are on the disk and files appear only when complete; the runs are marked as interrupted, and a second signal ends all at once. */
function closeOnInterrupt(runner: Runner): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      stderr.write('\nInterrupted. The same command goes on from its last finished step.\n')
      process.once(signal, () => exit(130))
      setTimeout(() => exit(130), 2000).unref()
      void runner.close().finally(() => exit(130))
    })
  }
}

async function locateModel(flags: Flags, hub: Awaited<ReturnType<typeof openHub>>, line: ProgressLine): Promise<string> {
  const name = flags.model ?? ''
  if (existsSync(name)) return resolve(name)
  if (name === 'sample') return sampleModelFolder
  if (!/^[\w.-]+\/[\w.-]+$/.test(name))
    throw new EspalierError(
      'not-found',
      `There is no model at "${name}". Give a folder, a name on the hub such as org/name, or "sample" for the bundled model.`,
    )
  const folder = await hub.fetchModel(name, flags.revision ?? 'main', { report: (progress) => line.show(progress) })
  line.clear()
  return folder
}

async function runOne(
  runner: Runner,
  index: number,
  request: RunRequest,
  line: ProgressLine,
  sweep: boolean,
): Promise<RunDocument | undefined> {
  try {
    return await runner.run(index, request, (event) => {
      if (event.type === 'progress') line.show(event.progress)
    })
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
