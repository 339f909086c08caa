import type { Treatment } from '#contract/comparison/series.ts'
import type { Front, WorthRow } from '#contract/comparison/worth.ts'
import type { ScatterPoint } from '../../charts/scatter.ts'
import type { SeriesStyle } from '../../lib/series-style.ts'

/** The mark of every unpruned file: rivals have a shape that no pruned file has. */
export const rivalStyle: SeriesStyle = { color: 'var(--ink-soft)', shape: 'square' }

/** Pruned files look as in the overview, except that no method has the rivals' square. */
export const prunedStyle = ({ color, shape }: SeriesStyle): SeriesStyle => ({ color, shape: shape === 'square' ? 'circle' : shape })

/** The text or task to show: the requested one, else one that decides, else the first. */
export function shownFront(fronts: readonly Front[], requested: string | undefined): Front | undefined {
  return fronts.find(({ kind }) => kind === requested) ?? fronts.find(({ decides }) => decides) ?? fronts[0]
}

/** The points of all files that can be compared on a text or task. */
export function worthPoints(
  rows: readonly WorthRow[],
  { kind, apart }: Pick<Front, 'kind' | 'apart'>,
  styleOf: (method: string, repair: Treatment | null) => SeriesStyle,
): ScatterPoint[] {
  return rows.flatMap((row): ScatterPoint[] => {
    const quality = apart.some((one) => one.row === row) ? undefined : row.quality[kind]
    const style = row.pruned ? prunedStyle(styleOf(row.method, row.repair)) : rivalStyle
    const [id = row.name] = row.runs
    return quality
      ? [
          {
            ...style,
            id,
            label: row.name,
            series: row.method,
            x: row.cost.mean,
            y: quality.mean,
            size: 0.45,
            spread: quality.error,
            factor: quality.factor,
          },
        ]
      : []
  })
}
