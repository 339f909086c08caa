import type { Plot } from '#contract/comparison/plot.ts'
import { markShapes } from '#contract/comparison/series.ts'
import type { LegendEntry } from '../../../charts/export-picture.ts'
import type { ScatterPoint } from '../../../charts/scatter.ts'
import { seriesColor } from '../../../lib/series-style.ts'

/** A plot's series, each with a colour and a shape, so that you never have to tell them apart by colour alone. */
export function legendOf({ series }: Plot): LegendEntry[] {
  return series.map(({ name }, at) => ({
    title: name,
    color: seriesColor(at),
    shape: markShapes[at % markShapes.length] ?? 'circle',
  }))
}

/** The points of a plot in the chart's form. */
export function pointsOf(plot: Plot): ScatterPoint[] {
  const looks = legendOf(plot)
  return plot.series.flatMap(({ name, points }, at) =>
    points.map(({ x, y, spread }, index) => ({
      id: `${at}/${index}`,
      label: name,
      series: name,
      x,
      y,
      // Marks of many points would hide their line.
      size: points.length > 24 ? 0 : 0.4,
      color: looks[at]?.color ?? 'var(--ink)',
      shape: looks[at]?.shape ?? 'circle',
      spread: spread ?? null,
    })),
  )
}
