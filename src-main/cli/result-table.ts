import type { Table, TableCell } from '#contract/comparison/table.ts'
import { beginText } from '#contract/data/begin-token.ts'
import { partText, type UsedData, windowsText } from '#contract/data/used-data.ts'
import { precisionTitles } from '#contract/pruning/precision.ts'
import { isLowerBetter, pruningSeconds } from '#contract/runs/measures.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import { secondsText } from '#contract/runs/time/seconds-text.ts'
import { sparsityBase } from '#contract/titles.ts'
import { printable } from './commands/output/print.ts'

/** The heading of a measure's column. Measures with the same name, data and unit share a column. */
const columnName = ({ name, dataset, unit }: RunDocument['measures'][number]): string =>
  [name, dataset && `(${dataset})`, unit && unit !== name && `[${unit}]`].filter(Boolean).join(' ')

/** One row per run: what was removed, the cost, and each measure. */
export function resultTable(documents: readonly RunDocument[]): Table {
  const measures = documents.flatMap((document) => document.measures)
  const columns = [...new Map(measures.map((measure) => [columnName(measure), measure.name]))]
  return {
    columns: [
      { label: 'method', numeric: false },
      { label: 'sparsity', numeric: true },
      { label: 'reached', numeric: true },
      { label: 'pruning [s]', numeric: true, better: 'lower' },
      ...columns.map(([label, name]) => ({ label, numeric: true, better: isLowerBetter(name) ? ('lower' as const) : ('higher' as const) })),
    ],
    rows: documents.map((document) => [
      { value: document.method },
      { value: document.sparsity.nominal },
      { value: document.sparsity.reached },
      { value: pruningSeconds(document.seconds) },
      ...columns.map(([label]): TableCell => {
        const found = document.measures.find((measure) => columnName(measure) === label)
        return { value: found?.value ?? null }
      }),
    ]),
  }
}

/** Formats a table for a terminal: numbers are rounded and columns aligned. */
export function toText({ columns, rows }: Table): string {
  const cells = [
    columns.map(({ label }) => printable(label)),
    ...rows.map((row) => row.map(({ value }, column) => cellText(value, columns[column]?.label ?? ''))),
  ]
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => [...(row[column] ?? '')].length)))
  const line = (row: string[]) =>
    row
      .map((cell, column) => (columns[column]?.numeric ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd()
  return `${[line(cells[0] ?? []), widths.map((width) => '─'.repeat(width)).join('  '), ...cells.slice(1).map(line)].join('\n')}\n`
}

function cellText(value: TableCell['value'], label: string): string {
  if (typeof value !== 'number') return value === null ? '–' : printable(String(value))
  if (label === 'sparsity' || label === 'reached') return `${(100 * value).toFixed(2)} %`
  if (Number.isInteger(value)) return value.toLocaleString('en')
  return value >= 1000 ? value.toFixed(1) : value.toPrecision(5)
}

/** Describes a run in words: what was removed, in which order, and its notes. */
export function describeRun(document: RunDocument): string {
  const { plan, decisions, notes, sparsity, seconds, passes, precision } = document
  const removed = plan.blocks.flatMap((block, index) =>
    block.attention === 'removed' && block.mlp === 'removed'
      ? [`block ${index}`]
      : block.attention === 'removed'
        ? [`attention ${index}`]
        : block.mlp === 'removed'
          ? [`MLP ${index}`]
          : [],
  )
  const widths = [
    ...new Set(plan.blocks.flatMap((block) => (block.mlp !== 'removed' && block.mlp.kept !== 'all' ? [block.mlp.kept.length] : []))),
  ]
  const order = decisions.map(({ kind, block }) => `${kind} ${block}`)
  return [
    `${document.method} on ${document.model}: requested ${(100 * sparsity.nominal).toFixed(2)} %, reached ${(100 * sparsity.reached).toFixed(2)} % of ${sparsityBase([document.method])} (${secondsText(seconds.pruning ?? 0)}).`,
    precision && precision !== 'float32' ? `Precision: ${precisionTitles[precision]}.` : '',
    document.beginToken && !document.beginToken.begins ? beginText(document.beginToken) : '',
    document.calibration ? `Calibrated on ${usedText(document.calibration)}.` : '',
    ...document.evaluation.map((used) => `Measured on ${usedText(used)}.`),
    widths.length > 0 ? `MLP neurons kept per block: ${widths.join(', ')}.` : '',
    removed.length > 0 ? `Removed: ${removed.join(', ')}.` : '',
    order.length > 0 ? `In this order: ${order.join(', ')}.` : '',
    plan.slice ? `Hidden width kept: ${plan.slice.width}.` : '',
    passes && passes.attention + passes.mlp > 0
      ? `Forward passes while scoring: ${passes.attention} attention, ${passes.mlp} MLP, ${passes.head} head.`
      : '',
    ...notes.map((note) => `Note: ${note}`),
  ]
    .filter(Boolean)
    .map(printable)
    .join('\n')
}

/** Describes a text that a run used: `32 windows of 256 tokens of calibration.txt, drawn with seed 1 (4f0a…)`. */
export function usedText({ source, windows, sequenceLength, seed, hash, beginToken, split }: UsedData): string {
  return [
    `${windowsText(windows, sequenceLength)} of ${source}`,
    ...(split ? [partText(split)] : []),
    ...(beginToken ? ['each beginning with the begin token'] : []),
    `${seed === 0 ? 'in order' : `drawn with seed ${seed}`} (${hash.slice(0, 12)})`,
  ].join(', ')
}
