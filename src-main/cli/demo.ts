import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { exit, stderr, stdout } from 'node:process'
import type { DataRequest } from '#contract/data/data-request.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { Grid } from '#contract/experiments/experiments.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { paperAnswers } from '#contract/protocol.ts'
import { pruningSeconds } from '#contract/runs/measures.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import { backendName } from '#contract/runs/run-request.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { secondsText } from '#contract/runs/time/seconds-text.ts'
import { denseMethod, sampleTextTitles } from '#contract/titles.ts'
import { wrapWords } from '#contract/words.ts'
import { BlockMap } from './block-map.ts'
import { doRun, prepareRuns, toDocument } from './command-runs.ts'
import { type CommandWorkbench, openCommandWorkbench } from './command-workbench.ts'
import { oneOf } from './flags/flag-values.ts'
import { locateModel, sampleText } from './locate-model.ts'
import { ProgressLine } from './progress-line.ts'
import { toText } from './result-table.ts'

/** The sparsities of the paper's tables. */
const sparsities = [0.25, 0.375, 0.5]
/** Width of an answer when two are shown side by side. */
const columnWidth = 56

/**
 * Prunes the sample model to three sparsities with 2SSP, and repairs the sparsest. Shows a live map, one table, and the answers of each
 * model.
 */
async function demo(): Promise<void> {
  const started = performance.now()
  const workbench = await openCommandWorkbench({ model: 'sample' })
  const documents: RunDocument[] = []
  let report: string | undefined
  try {
    const model = await locateModel(workbench, { model: 'sample' })
    const { blocks, hidden, intermediate } = model.description.shape
    stdout.write(`\nEspalier prunes its sample model: ${blocks} blocks, ${hidden} wide, ${intermediate} neurons per MLP.\n`)
    const runs = await prepareRuns(workbench, model, { grid: demoGrid(model), sweep: false })
    for (const run of runs) documents.push(await showRun(workbench, run, blocks))
    const last = runs.at(-1)
    const repaired = last && (await cloneWithRepair(workbench, last.id))
    if (repaired) documents.push(await showRun(workbench, repaired, blocks))
    await inspect(
      workbench,
      [...runs.filter(({ baseline }) => !baseline), ...(repaired ? [repaired] : [])].map(({ id }) => id),
      demoText(model),
    )
    report = await writeReport(workbench, runs[0]?.experiment?.id)
  } finally {
    await workbench.close()
  }
  printResults(documents)
  if (report) stdout.write(`\nReport: ${report}\n`)
  stdout.write(
    `\nDone in ${secondsText((performance.now() - started) / 1000)} on ${documents[0]?.backend}. The runs are in the history: \`npm start\` shows them.\n`,
  )
}

/** Computes a run, shows a live map, and returns the run's document. */
async function showRun(workbench: CommandWorkbench, run: RunEntry, blocks: number): Promise<RunDocument> {
  const line = new ProgressLine()
  stdout.write(`\n${run.baseline ? 'The dense model' : run.name}\n`)
  const map = new BlockMap(blocks)
  const detail = await doRun(workbench, run, (event) => {
    if (event.type === 'progress') line.show(event.progress)
    else line.clear()
    map.show(event)
  })
  line.clear()
  if (!run.baseline) map.end()
  return toDocument(detail)
}

/** Makes a copy of a run with in-order repair. It reuses the steps of the first run, so nothing is decided again. */
async function cloneWithRepair(workbench: CommandWorkbench, id: string): Promise<RunEntry> {
  const { request } = await workbench.call('runs.get', { id })
  const calibration = { ...(request.calibration as DataRequest), windows: 32 }
  return workbench.call('runs.clone', { id, changes: { repair: { kind: 'in-order', calibration } }, start: 'draft' })
}

/** Prints how far the pruned models are from the dense one, token by token. */
async function inspect(workbench: CommandWorkbench, runs: string[], data: DataRequest): Promise<void> {
  const line = new ProgressLine()
  stdout.write('\nDivergence from the dense model\n')
  const made = await workbench.call('runs.inspect', { inspect: { kind: 'divergence', runs, data }, start: 'draft' })
  const { inspected } = await doRun(workbench, made, (event) => {
    if (event.type === 'progress') line.show(event.progress)
  }).finally(() => line.clear())
  if (inspected?.kind !== 'divergence') return
  for (const { run, numbers, worst } of inspected.divergence.runs) {
    const [place] = worst
    const example = place ? `; worst: “…${place.before.slice(-40).replace(/\s+/g, ' ')}[${place.text.trim()}]”` : ''
    stdout.write(
      `  ${run.name}: mean divergence ${numbers.mean.value.toFixed(3)} nats, same first choice ${(100 * numbers.sameTop.value).toFixed(0)} %${example}\n`,
    )
  }
}

/** Writes the experiment's report to the current folder, overwriting an earlier one. */
async function writeReport(workbench: CommandWorkbench, experiment: string | undefined): Promise<string | undefined> {
  if (experiment === undefined) return undefined
  const { content } = await workbench.call('reports.make', { experiment, title: 'Espalier demo' })
  const file = resolve('espalier-demo.html')
  writeFileSync(file, content)
  return file
}

/** A model's name in the table and above its answers. */
function titleOf({ method, sparsity, repair }: RunDocument): string {
  if (method === denseMethod) return 'dense'
  return `2SSP ${100 * sparsity.nominal} %${repair ? ', repaired' : ''}`
}

const demoText = ({ description }: ModelEntry): DataRequest => ({
  source: sampleText('test'),
  sequenceLength: description.shape.contextLength,
  windows: 8,
})

function demoGrid({ id, description }: ModelEntry): Grid {
  const sequenceLength = description.shape.contextLength
  return {
    models: [id],
    methods: [{ method: '2ssp', options: {} }],
    amounts: sparsities.map((sparsity) => ({ sparsity })),
    seeds: [0],
    calibration: { source: sampleText('calibration'), sequenceLength, windows: 32 },
    measures: [
      { kind: 'perplexity', data: { source: sampleText('test'), sequenceLength, windows: 64 }, name: sampleTextTitles.test },
      { kind: 'inference', sequenceLength, repeats: 5 },
      paperAnswers(sequenceLength),
    ],
    backend: oneOf(backendName.options)(process.env.ESPALIER_BACKEND ?? 'auto', 'backend'),
  }
}

function printResults(documents: readonly RunDocument[]): void {
  const value = (document: RunDocument, name: string, dataset: string) =>
    document.measures.find((measure) => measure.name === name && measure.dataset === dataset)?.value ?? null
  stdout.write('\n')
  stdout.write(
    toText({
      columns: ['model', 'parameters', 'reached', 'perplexity', 'pruning [s]', 'prefill [tokens/s]', 'decode [tokens/s]'].map(
        (label, column) => ({ label, numeric: column > 0 }),
      ),
      rows: documents.map((document) => [
        { value: titleOf(document) },
        { value: value(document, 'parameters', '') },
        { value: document.sparsity.reached },
        { value: value(document, 'perplexity', sampleTextTitles.test) },
        { value: pruningSeconds(document.seconds) },
        { value: value(document, 'tokens per second', 'prefill') },
        { value: value(document, 'tokens per second', 'decode') },
      ]),
    }),
  )
  const [dense, ...pruned] = documents
  for (const [index, { prompt, text }] of (dense?.answers ?? []).entries()) {
    for (const document of pruned) {
      const other = document.answers?.[index]?.text ?? ''
      // A repaired model is shown beside its unrepaired version, every other model beside the dense one.
      const twin = document.repair && pruned.find(({ repair, sparsity }) => !repair && sparsity.nominal === document.sparsity.nominal)
      const left: [string, string] = twin ? [titleOf(twin), twin.answers?.[index]?.text ?? ''] : ['dense', text]
      stdout.write(`\n> ${prompt}\n${sideBySide(left, [titleOf(document), other])}`)
    }
  }
}

/** Two texts in columns, each under its title. */
function sideBySide(left: readonly string[], right: readonly string[]): string {
  const columns = [left, right].map(([title = '', text = '']) => [
    title,
    '─'.repeat(title.length),
    ...wrapWords(text.split(/\s+/), columnWidth),
  ])
  const height = Math.max(...columns.map((lines) => lines.length))
  return Array.from({ length: height }, (_, i) => `${(columns[0]?.[i] ?? '').padEnd(columnWidth)}  ${columns[1]?.[i] ?? ''}`.trimEnd())
    .join('\n')
    .concat('\n')
}

try {
  await demo()
} catch (error) {
  stderr.write(`espalier: ${toErrorMessage(error).message}\n`)
  exit(1)
}
