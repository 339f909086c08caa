import type { Plot } from '#contract/comparison/plot.ts'
import { markShapes } from '#contract/comparison/series.ts'
import { candidateMeasures, scoreOf } from '#contract/pruning/candidates.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import type { BarGroup } from '../../../charts/bars.ts'
import type { LegendEntry } from '../../../charts/export-picture.ts'
import type { ScatterPoint } from '../../../charts/scatter.ts'
import { formatPlural, formatShare } from '../../../lib/format.ts'
import { seriesColor } from '../../../lib/series-style.ts'

/** The scores of a method: one bar per block, or a plot. */
export type MethodScores =
  | { readonly kind: 'bars'; readonly title: string; readonly note: string; readonly groups: BarGroup[] }
  | { readonly kind: 'plot'; readonly title: string; readonly note: string; readonly plot: Plot }

/** Returns the scores that decided a run; null if the candidates of its decisions show everything. */
export function methodScores(run: Pick<RunDetail, 'decisions' | 'selections' | 'spectra'>): MethodScores | null {
  if (run.spectra.length > 0) return spectraOf(run.spectra)
  if (run.selections.length > 0) return generationsOf(run.selections)
  return blockScores(run.decisions)
}

/** Bars of scores that were computed once: ShortGPT's influence, or the similarity across runs of blocks. */
function blockScores(decisions: RunDetail['decisions']): MethodScores | null {
  const [first] = decisions
  const scores = first?.scores ?? []
  const [score] = scores
  if (!score) return null
  const { measure } = scoreOf(score)
  if (measure === 'perplexity') return null
  const removed = new Set(decisions.map(({ block }) => block))
  const groups = [...scores]
    .sort((a, b) => a.block - b.block)
    .map((one) => ({
      title: `block ${one.block}`,
      bars: [
        {
          id: String(one.block),
          label: removed.has(one.block) ? 'removed' : 'kept',
          color: removed.has(one.block) ? 'var(--warm)' : 'var(--leaf)',
          value: scoreOf(one).value,
          error: null,
        },
      ],
    }))
  const { title, goes } = candidateMeasures[measure]
  return { kind: 'bars', title, note: `Orange blocks were removed: the ${goes} go first`, groups }
}

/** How far the best candidate of each generation is from the dense model, on the windows of its last selection. */
function generationsOf(selections: RunDetail['selections']): MethodScores {
  const best = new Map<number, number>()
  for (const { generation, fitness, survivors } of selections) best.set(generation, fitness[survivors[0] ?? 0] ?? Number.NaN)
  const points = [...best].map(([x, y]) => ({ x, y }))
  return {
    kind: 'plot',
    title: 'Best of each generation',
    note: 'On the windows drawn for each generation',
    plot: {
      title: 'Best of each generation',
      x: { label: 'Generation', scale: 'linear' },
      y: { label: 'Divergence from the dense model, nats per token', scale: 'linear' },
      series: [{ name: 'fittest candidate', points }],
    },
  }
}

/** The number of parts whose eigenvalues are drawn, spread evenly from the first to the last. */
const drawnParts = 5

function spectraOf(spectra: RunDetail['spectra']): MethodScores {
  const last = spectra.length - 1
  const chosen = new Set(Array.from({ length: drawnParts }, (_, i) => Math.round((i * last) / (drawnParts - 1))))
  const series = spectra
    .filter((_, index) => chosen.has(index))
    .map(({ part, at, values }) => ({
      name: `${part % 2 === 0 ? 'attention' : 'MLP'} ${part >> 1}`,
      points: at.flatMap((index, i) => ((values[i] ?? 0) > 0 ? [{ x: index + 1, y: values[i] ?? 0 }] : [])),
    }))
  const held = spectra.map((spectrum) => spectrum.held)
  const [first] = spectra
  return {
    kind: 'plot',
    title: 'Eigenvalues of the stream',
    note: `${first?.kept} of ${formatPlural(first?.of ?? 0, 'component')} are kept and hold ${formatShare(Math.min(...held))} to ${formatShare(Math.max(...held))} of the variance`,
    plot: {
      title: 'Eigenvalues of the stream',
      x: { label: 'Component', scale: 'linear' },
      y: { label: 'Share of the variance', scale: 'log' },
      series,
    },
  }
}

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
