import type { RunEntry } from '../runs/runs.ts'
import { isTimed, loadMeasure } from '../runs/time/speed.ts'
import { denseMethod } from '../titles.ts'
import { upperFirst } from '../words.ts'
import { probabilityText } from './cell-text.ts'
import { whyResultsApart } from './comparable.ts'
import { equalSeedsNotes, meansTexts, modelsText, shapeText } from './comparison-table.ts'
import { type Difference, differenceOf } from './difference.ts'
import { columnLabel, type MeasureColumn, measureColumns, measureOf } from './measure-columns.ts'
import { counted, intervalOf, type SeedGroup, seedlessName } from './seeds.ts'
import type { Table, TableCell } from './table.ts'

type Group = Pick<SeedGroup<RunEntry>, 'name' | 'model' | 'runs' | 'seeds' | 'equalSeeds' | 'measures'>

const pairText =
  'Difference: of perplexities the first divided by the second, of others the first minus the second, with its 95 % interval in brackets, in pairs of the same window or question. p: how often chance alone differs as much, two-sided. With several seeds, the test over seeds (in pairs of the same seed, if both have the same) must agree, and the wider interval is shown.'

/** Returns two results to test first: two pruned ones at one sparsity that can be compared if there are, else the first two. */
export function firstPair<Own extends Group>(groups: readonly Own[]): [Own, Own] | null {
  const pruned = groups.filter(({ runs }) => runs.every(({ method }) => method !== denseMethod))
  const columns = measureColumns(pruned.flatMap(({ runs }) => runs)).filter(({ unit }) => !counted.has(unit))
  for (const one of pruned) {
    const isRival = (rival: Own) => rival !== one && rival.runs[0]?.nominal === one.runs[0]?.nominal
    const other = pruned.find((rival) => isRival(rival) && whyResultsApart(one, rival, columns) === null)
    if (other) return [one, other]
  }
  const [first, second] = groups
  return first && second ? [first, second] : null
}

/** Tests one result against another: a row for each measure that both have and that varies, but none for times and sizes. */
export function pairTable(first: Group, second: Group): Table {
  const columns = measureColumns([...first.runs, ...second.runs]).filter(
    (column) =>
      first.measures.has(column.id) &&
      second.measures.has(column.id) &&
      !isTimed(column) &&
      column.name !== loadMeasure.name &&
      column.unit !== 's' &&
      !counted.has(column.unit),
  )
  const tested = columns.flatMap((column) => {
    const [apart, difference] = [whyResultsApart(first, second, [column]), differenceOf(first, second, column)]
    return difference || apart !== null ? [{ column, difference, apart }] : []
  })
  // A column has the number of seeds.
  const [own, other] = [first, second].map(({ name }) => seedlessName(name)) as [string, string]
  const [one, two] = own === other ? [`${own} (first)`, `${other} (second)`] : [own, other]
  const shapes = tested.map(
    ({ column }) => first.runs.map((run) => shapeText(measureOf(run, column.id))).find((text) => text !== null) ?? '–',
  )
  const [shape] = shapes
  const isOneShape = new Set(shapes).size === 1
  return {
    caption: `${upperFirst(one)} against ${two}, on ${modelsText([first, second])}${isOneShape && shape !== '–' ? `, ${shape}` : ''}.`,
    notes: [
      tested.length > 0 ? pairText : 'No measure of both can be tested.',
      ...meansTexts(
        [first, second],
        tested.map(({ column }) => column),
      ),
      ...equalSeedsNotes([first, second]),
    ],
    alike: 'rows',
    columns: [
      { label: 'Measure', numeric: false },
      ...[one, two].map((label) => ({ label, numeric: true })),
      ...['Difference', 'p', 'Seeds'].map((label) => ({ label, numeric: true, apart: true })),
      ...(isOneShape ? [] : [{ label: 'Measured on', numeric: false }]),
      { label: 'Conclusion', numeric: false },
    ],
    rows: tested.map(({ column, difference, apart }, at): TableCell[] => [
      { value: columnLabel(column) },
      meanCell(first, column),
      meanCell(second, column),
      difference ? { value: difference.value, low: difference.low, high: difference.high } : { value: null },
      { value: difference ? probabilityText(difference.probability) : null },
      { value: first.seeds === second.seeds ? first.seeds : `${first.seeds} and ${second.seeds}` },
      ...(isOneShape ? [] : [{ value: shapes[at] ?? '–' }]),
      { value: apart === null ? conclusion(difference, column) : `not compared: ${apart}` },
    ]),
  }
}

function meanCell(group: Group, { id }: MeasureColumn): TableCell {
  const found = group.measures.get(id)
  return { value: found?.mean ?? null, spread: found?.spread ?? null, factor: found?.factor ?? false, ...intervalOf(group, id) }
}

function conclusion(difference: Difference | null, { lowerIsBetter }: MeasureColumn): string {
  if (!difference?.clear) return 'no clear difference'
  const isLower = difference.value < (difference.factor ? 1 : 0)
  return isLower === lowerIsBetter ? 'the first is better' : 'the second is better'
}
