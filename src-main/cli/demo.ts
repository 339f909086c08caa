import { exit, stderr, stdout } from 'node:process'
import { toErrorMessage } from '#contract/errors.ts'
import type { Grid } from '#contract/experiments.ts'
import type { ModelEntry } from '#contract/models.ts'
import { paperAnswers } from '#contract/protocol.ts'
import type { RunDocument } from '#contract/run.ts'
import { denseMethod } from '#contract/titles.ts'
import { BlockMap } from './block-map.ts'
import { doRun, prepareRuns, toDocument } from './command-runs.ts'
import { openCommandWorkbench } from './command-workbench.ts'
import { backendFlag } from './flags.ts'
import { locateModel } from './locate-model.ts'
import { duration, ProgressLine } from './progress-line.ts'
import { toText } from './result-table.ts'
import { sampleText } from './sample.ts'

/** The shares of the paper's tables. */
const sparsities = [0.25, 0.375, 0.5]
/** Columns of an answer when two stand side by side. */
const columnWidth = 56

/** The sample model as it is, and pruned by 2SSP to three sparsities: a live map, one table, and what each has to say. */
async function demo(): Promise<void> {
  const started = performance.now()
  const workbench = await openCommandWorkbench({ model: 'sample' })
  const documents: RunDocument[] = []
  try {
    const model = await locateModel(workbench, { model: 'sample' })
    const { blocks, hidden, intermediate } = model.description.shape
    stdout.write(`\nEspalier prunes its sample model: ${blocks} blocks, ${hidden} wide, ${intermediate} neurons per MLP.\n`)
    const runs = await prepareRuns(workbench, model, { grid: demoGrid(model), sweep: false })
    const line = new ProgressLine()
    for (const run of runs) {
      stdout.write(run.baseline ? '\nThe dense model\n' : `\n2SSP at ${100 * (run.nominal ?? 0)} %\n`)
      const map = new BlockMap(blocks)
      const detail = await doRun(workbench, run, (event) => {
        if (event.type === 'progress') line.show(event.progress)
        else line.clear()
        map.show(event)
      })
      line.clear()
      if (!run.baseline) map.end()
      documents.push(toDocument(detail))
    }
  } finally {
    await workbench.close()
  }
  printResults(documents)
  stdout.write(
    `\nDone in ${duration((performance.now() - started) / 1000)} on ${documents[0]?.backend}. The runs are in the history: \`npm start\` shows them.\n`,
  )
}

function demoGrid({ id, description }: ModelEntry): Grid {
  const sequenceLength = description.shape.contextLength
  return {
    models: [id],
    methods: [{ method: '2ssp', options: {} }],
    amounts: sparsities.map((sparsity) => ({ sparsity })),
    seeds: [0],
    calibration: { source: sampleText('calibration'), sequenceLength, windows: 32 },
    measures: [
      { kind: 'perplexity', data: { source: sampleText('test'), sequenceLength, windows: 64 }, name: 'sample test' },
      { kind: 'inference', sequenceLength, repeats: 5 },
      paperAnswers(sequenceLength),
    ],
    backend: backendFlag(process.env.ESPALIER_BACKEND),
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
        { value: document.method === denseMethod ? 'dense' : `2SSP ${100 * document.sparsity.nominal} %` },
        { value: value(document, 'parameters', '') },
        { value: document.sparsity.reached },
        { value: value(document, 'perplexity', 'sample test') },
        { value: document.seconds.pruning ?? null },
        { value: value(document, 'tokens per second', 'prefill') },
        { value: value(document, 'tokens per second', 'decode') },
      ]),
    }),
  )
  const [dense, ...pruned] = documents
  for (const [index, { prompt, text }] of (dense?.answers ?? []).entries()) {
    for (const document of pruned) {
      const other = document.answers?.[index]?.text ?? ''
      stdout.write(`\n> ${prompt}\n${sideBySide(['dense', text], [`2SSP ${100 * document.sparsity.nominal} %`, other])}`)
    }
  }
}

/** Two texts in columns, each under its title. */
function sideBySide(left: readonly string[], right: readonly string[]): string {
  const columns = [left, right].map(([title = '', text = '']) => [title, '─'.repeat(title.length), ...wrap(text)])
  const height = Math.max(...columns.map((lines) => lines.length))
  return Array.from({ length: height }, (_, i) => `${(columns[0]?.[i] ?? '').padEnd(columnWidth)}  ${columns[1]?.[i] ?? ''}`.trimEnd())
    .join('\n')
    .concat('\n')
}

function wrap(text: string): string[] {
  const lines: string[] = ['']
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1) ?? ''
    if (last.length + word.length + 1 > columnWidth && last !== '') lines.push(word)
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`
  }
  return lines
}

try {
  await demo()
} catch (error) {
  stderr.write(`espalier: ${toErrorMessage(error).message}\n`)
  exit(1)
}
