import type { ComparedRun, Comparison } from '#contract/comparison/compare.ts'
import { comparisonTable, measureOf } from '#contract/comparison/comparison.ts'
import { noiseLevel } from '#contract/comparison/paired.ts'
import { titleOfMethod } from '#contract/titles.ts'
import { renderSvg } from '../comparison/plot-svg.ts'
import { formatNumber } from '../comparison/table-text.ts'
import { type Block, heading, paragraph, tableBlock, turned } from './blocks.ts'
import { estimated, percent } from './cells.ts'

/** How many runs fit side by side as columns of a table. */
const mostColumns = 8

/** Number of columns before the measures: model, method, sparsity, reached, seed. */
const firstMeasure = 5
const namesOf = (runs: readonly { name: string }[]): string[] => runs.map(({ name }) => name)

/** The comparison as on the screen, with a plot of perplexity over sparsity. */
export async function comparisonSection({ runs, baseline }: Comparison): Promise<Block[]> {
  const measured = runs.filter(({ measures }) => measures.length > 0)
  if (measured.length === 0) return []
  const ordered = [...measured].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  const byRun = comparisonTable(ordered, baseline, false)
  const wide = ordered.length > mostColumns
  const table = wide ? byRun : turned(byRun, firstMeasure, namesOf(ordered))
  const blocks: Block[] = [heading(2, 'What it cost'), { kind: 'table', table, caption: 'Measures by run; the best of each in bold.' }]
  const perplexity = measured.flatMap(({ measures }) => measures).find(({ name }) => name === 'perplexity')
  if (!perplexity) return blocks
  const id = perplexity.dataset ? `perplexity/${perplexity.dataset}` : 'perplexity'
  const points = (run: ComparedRun) => {
    const value = measureOf(run, id)?.value
    return value !== undefined && Number.isFinite(value) ? [{ x: run.reached ?? 0, y: value }] : []
  }
  const series = [...Map.groupBy(measured, ({ method }) => method)].map(([method, own]) => ({
    name: titleOfMethod(method),
    points: own.flatMap(points).sort((a, b) => a.x - b.x),
  }))
  const title = `Perplexity on ${perplexity.dataset || 'the test text'}`
  const svg = await renderSvg({
    title,
    x: { label: 'Removed share of the block stack', scale: 'linear' },
    y: { label: 'Perplexity', scale: 'log' },
    series,
  })
  const said = series.map(({ name, points: own }) => `${name}: ${own.map(({ x, y }) => `${percent(x)} ${formatNumber(y)}`).join(', ')}`)
  return [...blocks, { kind: 'picture', svg, onWhite: true, alternative: `${title} against the removed share. ${said.join('; ')}.` }]
}

/** Flips against the baseline, with their significance. */
export function flipsSection({ runs }: Comparison): Block[] {
  const rows = runs.flatMap((run) =>
    run.paired.map(({ task, measure, questions, first, second, gained, lost, probability }) => [
      run.name,
      task,
      measure,
      questions,
      estimated(first),
      estimated(second),
      gained,
      lost,
      probability.toPrecision(3),
      probability < noiseLevel ? 'differs' : 'within noise',
    ]),
  )
  if (rows.length === 0) return []
  const labels = ['Run', 'Task', 'Measure', 'Questions', 'Baseline', 'Run’s', 'Became right', 'Became wrong', 'McNemar p', 'Says']
  return [
    heading(2, 'Questions that flipped'),
    paragraph(
      `Compared with the baseline on the same questions. p is from McNemar’s exact test. A difference that occurs by chance more than once in ${Math.round(1 / noiseLevel)} is called noise.`,
    ),
    tableBlock(labels, rows, 'Answers to the same questions'),
  ]
}
