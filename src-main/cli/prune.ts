import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { exit, stderr, stdout } from 'node:process'
import type { BeginChoice } from '#contract/data/begin-token.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import type { SavedFile } from '#contract/exports/exports.ts'
import type { DivergenceRequest } from '#contract/inspection/inspection.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { fileSizeText } from '#contract/runs/amount-text.ts'
import type { DivergenceDocument, RunDocument } from '#contract/runs/run.ts'
import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import { denseMethod, type FormatId, formatTitles, titleOfMethod, weightText } from '#contract/titles.ts'
import { renderSvg } from '#services/comparison/plot-svg.ts'
import { toCsv, toLatex } from '#services/comparison/table-text.ts'
import { checkWritable } from '#services/exports/check-target.ts'
import { refuseSystem } from '#services/models/path-gate.ts'
import { doRun, prepareRuns, toDocument } from './command-runs.ts'
import { type CommandWorkbench, openCommandWorkbench } from './command-workbench.ts'
import { followTransfer } from './commands/output/follow-transfer.ts'
import { jsonText, printable, printableLines } from './commands/output/print.ts'
import { checkFlags, measuredType } from './flags/check-flags.ts'
import type { Flags } from './flags/flags.ts'
import { locateModel } from './locate-model.ts'
import { ProgressLine } from './progress-line.ts'
import { type Commanded, commandedRuns, divergenceData } from './requests.ts'
import { describeRun, resultTable, toText } from './result-table.ts'

/** Runs what the flags ask for and prints the results: the baseline first, then methods x amounts x seeds. */
export async function prune(flags: Flags): Promise<number> {
  checkFlags(flags)
  if (flags.output) {
    refuseSystem(flags.output)
    await checkWritable(resolve(flags.output))
  }
  const workbench = await openCommandWorkbench(flags)
  closeOnInterrupt(workbench, flags.executor)
  let hasUnfinishedRuns = false
  try {
    const model = await locateModel(workbench, flags)
    const commanded = commandedRuns(flags, model)
    if (flags.save) await workbench.call('runs.checkSave', { model: model.id, ...savedWork(commanded), ...savingOf(flags) })
    const runs = await prepareRuns(workbench, model, commanded, flags.executor ?? null)
    hasUnfinishedRuns = true
    await runAll(workbench, model, runs, flags)
    hasUnfinishedRuns = false
  } finally {
    // After a failure the folder stays, so that the same command can resume its unfinished runs.
    await (hasUnfinishedRuns ? workbench.close() : workbench.finish())
  }
  return 0
}

async function runAll(workbench: CommandWorkbench, model: ModelEntry, runs: readonly RunEntry[], flags: Flags): Promise<void> {
  const details: RunDetail[] = []
  for await (const detail of flags.executor ? runOnCluster(workbench, runs, flags.executor) : runHere(workbench, runs)) {
    if (detail.study) await printStudy(detail, resolve(flags.output ?? 'ablations'), flags.json)
    else if (!flags.json) printRun(toDocument(detail))
    details.push(detail)
  }
  if (flags.save && runs[0]) await save(workbench, runs[runs.length - 1] as RunEntry, flags)
  const studies = details.filter(({ study }) => study !== null)
  if (studies.length > 0) printStudies(studies, flags)
  else printAll(await withDivergence(workbench, model, details, flags), flags)
}

/** Runs one run after another on this machine and yields each when it is done. */
async function* runHere(workbench: CommandWorkbench, runs: readonly RunEntry[]): AsyncGenerator<RunDetail> {
  const line = new ProgressLine()
  for (const run of runs)
    yield await doRun(workbench, run, (event) => {
      if (event.type === 'progress') line.show(event.progress)
    }).finally(() => line.clear())
}

/**
 * Sends all runs to a cluster at once, waits until all have ended, and yields them in order. A failed run does not stop the others, but its
 * error is thrown at its turn, so the runs after it are not yielded.
 */
async function* runOnCluster(workbench: CommandWorkbench, runs: readonly RunEntry[], cluster: string): AsyncGenerator<RunDetail> {
  const line = new ProgressLine()
  let done = 0
  const show = () => line.show({ phase: `On ${cluster}`, done, total: runs.length, unit: 'runs' })
  const following = runs.map((run) =>
    doRun(workbench, run, show).finally(() => {
      done += 1
      show()
    }),
  )
  const outcomes = await Promise.allSettled(following).finally(() => line.clear())
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') throw outcome.reason
    yield outcome.value
  }
}

/** Returns the runs' documents. With `--evaluate_divergence`, also computes and prints their divergence from the dense model. */
async function withDivergence(
  workbench: CommandWorkbench,
  model: ModelEntry,
  details: readonly RunDetail[],
  flags: Flags,
): Promise<RunDocument[]> {
  if (!flags.evaluate_divergence) return details.map(toDocument)
  const found = await evaluateDivergence(workbench, details, divergenceData(flags, model), flags.begin_token ?? 'auto', new ProgressLine())
  if (!flags.json) printDivergences(found, details)
  return details.map((detail) => {
    const divergence = found.get(detail.id)
    return { ...toDocument(detail), ...(divergence ? { divergence } : {}) }
  })
}

/**
 * Where and how `--save` writes. Without `--format` it writes the GGUF file that `--fit` or `--weights` weighed or measured, and otherwise the
 * exact format.
 */
export function savingOf({ save = '', format, fit, gguf_type: types, weights, replace }: Flags) {
  const measured = measuredType({ weights, fit })
  const formats = format.length > 0 ? [...format] : [fit.length > 0 || measured ? 'gguf' : 'exact']
  const ggufTypes = types.length > 0 ? [...types] : measured ? [measured] : []
  return { folder: resolve(save), formats, ...(ggufTypes.length > 0 ? { ggufTypes } : {}), replace }
}

async function save(workbench: CommandWorkbench, { id }: RunEntry, flags: Flags): Promise<void> {
  const target = savingOf(flags)
  const { saved = [] } = await followTransfer(workbench, () => workbench.call('runs.save', { id, ...target }))
  if (!flags.json) stdout.write(`Saved in ${printable(target.folder)}\n${saved.map(describeSaved).join('')}\n`)
  for (const { path, budget } of saved)
    if (budget && budget.bytes > budget.asked)
      throw new EspalierError(
        'infeasible',
        `${path} has ${fileSizeText(budget.bytes)}, more than the ${fileSizeText(budget.asked)} that --fit asked for. Give a smaller --fit.`,
      )
}

/** The method, amount and options of the run that will be saved. */
function savedWork(commanded: Commanded) {
  if ('request' in commanded) {
    const { method, amount, options } = commanded.request
    return { method, amount, options }
  }
  // `--save` needs one plan, so such a grid has one method and one amount besides the dense model.
  const { methods, amounts } = commanded.grid
  const { method = denseMethod, options } = methods[0] ?? {}
  return { method, amount: amounts[0], options }
}

/** One line for a saved file: its size, and how it differs from the model before saving. */
function describeSaved({ format, type, bytes, reload, budget }: SavedFile): string {
  const name = [formatTitles[format as FormatId] ?? format, type && weightText(type)].filter(Boolean).join(' ')
  const size = budget ? `${fileSizeText(budget.bytes)} of ${fileSizeText(budget.asked)} asked` : fileSizeText(bytes)
  if (!reload) return `  ${name}: ${size}\n`
  const change = reload.perplexity / reload.expected - 1
  const comparison =
    Math.abs(change) < 1e-6
      ? 'same perplexity'
      : `perplexity ${(100 * Math.abs(change)).toPrecision(2)} % ${change > 0 ? 'higher' : 'lower'} than before saving`
  return `  ${name}: ${size}; reopened: ${comparison}, same first ${reload.equalTokens} of ${reload.greedyTokens} greedy tokens\n`
}

/**
 * On Ctrl-C, closes the workbench, which marks the runs as interrupted, and exits after 2 seconds at the latest. A second signal exits at
 * once. That is safe because finished steps are on disk and files appear only when they are complete.
 */
function closeOnInterrupt(workbench: CommandWorkbench, cluster: string | undefined): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      const jobs = cluster === undefined ? '' : ` Jobs on ${cluster} continue.`
      stderr.write(`\nInterrupted. Rerun the same command to resume from the last finished step.${jobs}\n`)
      process.once(signal, () => exit(130))
      setTimeout(() => exit(130), 2000).unref()
      void workbench.close().finally(() => exit(130))
    })
  }
}

function printRun(document: RunDocument): void {
  stdout.write(`${describeRun(document)}\n`)
  for (const { prompt, text } of document.answers ?? []) stdout.write(printableLines(`\n> ${prompt}\n${text}\n`))
  stdout.write('\n')
}

/** With `--json`, prints the studies: a single one directly, several as an object by name. */
function printStudies(studies: readonly RunDetail[], { json }: Flags): void {
  if (!json) return
  const results = studies.map(({ method, study, remarks }) => [method, { ...study, notes: remarks }] as const)
  stdout.write(`${jsonText(results.length === 1 ? results[0]?.[1] : Object.fromEntries(results))}\n`)
}

/**
 * Prints the table of all runs, or with `--json` their documents: a single one directly, several as an array without a baseline that was
 * not requested. With `--output`, also writes the table and all documents to files.
 */
function printAll(documents: readonly RunDocument[], flags: Flags): void {
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
  const requested = flags.dense || documents.length === 1 ? documents : documents.filter(({ method }) => method !== denseMethod)
  stdout.write(`${jsonText(requested.length === 1 ? requested[0] : requested)}\n`)
}

/** Saves an ablation's table as CSV and its plot as SVG, and prints the table. */
async function printStudy({ method, name, study, remarks }: RunDetail, folder: string, quiet: boolean): Promise<void> {
  if (!study) throw new EspalierError('internal', `"${name}" has no table.`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${method}.csv`), toCsv(study.table))
  writeFileSync(join(folder, `${method}.svg`), await renderSvg(study.plot))
  if (quiet) return
  stdout.write(`${titleOfMethod(method)}\n${toText(study.table)}${remarks.map((note) => `Note: ${printable(note)}\n`).join('')}`)
  stdout.write(`Saved as ${printable(join(folder, `${method}.csv`))} and .svg\n\n`)
}

/** How many runs are compared with the dense model in one pass. */
const runsPerPass = 5

/** Compares a command's pruned runs with the dense model. Returns the divergence for each run's document, by run id. */
async function evaluateDivergence(
  workbench: CommandWorkbench,
  runs: readonly RunDetail[],
  data: DataRequest,
  beginToken: BeginChoice,
  line: ProgressLine,
): Promise<Map<string, DivergenceDocument>> {
  const pruned = runs.filter(({ method, hasPlan }) => hasPlan && method !== denseMethod).map(({ id }) => id)
  const found = new Map<string, DivergenceDocument>()
  for (let first = 0; first < pruned.length; first += runsPerPass) {
    const inspect = { kind: 'divergence' as const, runs: pruned.slice(first, first + runsPerPass), data }
    const run = await inspectionFor(workbench, inspect, beginToken)
    const { inspected } = await doRun(workbench, run, (event) => {
      if (event.type === 'progress') line.show(event.progress)
    }).finally(() => line.clear())
    if (inspected?.kind !== 'divergence') continue
    const { data: used, tokens, dense } = inspected.divergence
    for (const { run: subject, ...rest } of inspected.divergence.runs) found.set(subject.id, { data: used, tokens, dense, ...rest })
  }
  return found
}

/** Returns the run that makes this comparison: one from an earlier start of this command, or else a new draft. */
async function inspectionFor({ call }: CommandWorkbench, inspect: DivergenceRequest, beginToken: BeginChoice) {
  const { runs } = await call('runs.inspectionsOf', { id: inspect.runs[0] as string })
  for (const run of runs) {
    const { request } = await call('runs.get', { id: run.id })
    const isSame = request.beginToken === beginToken && JSON.stringify(request.inspect) === JSON.stringify(inspect)
    if (run.status !== 'running' && isSame) return run
  }
  return call('runs.inspect', { inspect, beginToken, start: 'draft' })
}

/** Prints the numbers that llama.cpp reports for a divergence, one row per run. */
function printDivergences(found: ReadonlyMap<string, DivergenceDocument>, runs: readonly RunDetail[]): void {
  const columns = ['mean', 'median', 'p90', 'p95', 'p99', 'p999', 'sameTop', 'changeRms', 'perplexityRatio'] as const
  const labels = [
    'run',
    'tokens',
    ...['mean KL', 'median', '90 %', '95 %', '99 %', '99.9 %', 'same top', 'RMS Δp', 'perplexity ratio'].flatMap((label) => [label, '±']),
    'largest',
  ]
  stdout.write('\nDivergence from the dense model, in nats\n')
  stdout.write(
    toText({
      columns: labels.map((label, column) => ({ label, numeric: column > 0 })),
      rows: runs.flatMap(({ id, name }) => {
        const document = found.get(id)
        if (!document) return []
        const { numbers, tokens } = document
        return [
          [
            { value: name },
            { value: tokens },
            ...columns.flatMap((key) => [{ value: numbers[key].value }, { value: numbers[key].error }]),
            { value: numbers.largest },
          ],
        ]
      }),
    }),
  )
}
