import { z } from 'zod'
import type { TableRow } from '#contract/comparison/table.ts'
import { EspalierError } from '#contract/errors.ts'
import { ablationTitles } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { count } from '../options.ts'
import { feasibleSplit, splitTwoStage } from '../two-stage/split.ts'
import { type AblationInput, defineAblation, type Measured, measureTrial } from './ablation.ts'

const options = z.object({
  sparsities: z
    .array(z.number().min(0).max(1))
    .nonempty()
    .default(Array.from({ length: 31 }, (_, i) => (i + 1) / 32) as [number, ...number[]])
    .meta({ title: 'Sparsities', help: 'Shares of the block stack; each is split in every possible way.' }),
  windows: count(32, { title: 'Windows', unit: 'windows', help: 'Calibration windows of the first stage.' }),
})

type Input = AblationInput<z.infer<typeof options>>

/** Tries every possible split of a sparsity between attention and MLPs, and marks Eq. 5's choice. */
export const balancing = defineAblation({
  title: ablationTitles.balancing_sparsity_ratio,
  summary: '2SSP with every number of attention submodules that a sparsity allows.',
  options,
  check(spec, { sparsities }) {
    const counts = [...spec.blocks.keys()]
    if (!sparsities.some((sparsity) => counts.some((attention) => feasibleSplit(spec, sparsity, attention))))
      throw new EspalierError('infeasible', `None of the sparsities ${sparsities.join(', ')} can be reached on this model.`)
  },
  trials: (spec, { sparsities, windows }) =>
    feasiblePairs(spec, sparsities).map(({ sparsity, attention }) => ({ sparsity, options: { attention, windows } })),
  async study(input) {
    const { view, options: chosen, evaluation, run } = input
    const calibration = await input.calibration(chosen.windows, 0)
    const pairs = feasiblePairs(view.spec, chosen.sparsities)
    const rows: TableRow[] = []
    const series = chosen.sparsities.map((sparsity) => ({
      name: `Sparsity ${Number(sparsity.toFixed(4))}`,
      points: [] as { x: number; y: number }[],
    }))
    for (const { sparsity, attention } of pairs) {
      run.progress(ablationTitles.balancing_sparsity_ratio, rows.length, pairs.length, 'models')
      const own = { attention, windows: chosen.windows }
      const measured = await measureTrial(input, { name: `${attention} attention at ${sparsity}`, sparsity, options: own, calibration })
      rows.push(rowOf(input, sparsity, attention, measured))
      series[chosen.sparsities.indexOf(sparsity)]?.points.push({ x: attention, y: measured.perplexity })
    }
    return {
      table: {
        columns: [
          { label: 'Sparsity', numeric: true },
          { label: 'Attention removed', numeric: true },
          { label: 'By Eq. 5', numeric: false },
          { label: 'Reached', numeric: true },
          { label: `Perplexity on ${evaluation.name}`, numeric: true, better: 'lower' },
        ],
        rows: markBest(rows),
      },
      plot: {
        title: ablationTitles.balancing_sparsity_ratio,
        x: { label: 'Attention submodules removed', scale: 'linear' },
        y: { label: `Perplexity on ${evaluation.name}`, scale: 'log' },
        series: series.filter(({ points }) => points.length > 0),
      },
      notes: [],
    }
  },
})

/** Returns every number of attention submodules that each sparsity allows. */
function feasiblePairs(spec: DecoderSpec, sparsities: readonly number[]): { sparsity: number; attention: number }[] {
  return sparsities.flatMap((sparsity) =>
    [...spec.blocks.keys()].map((attention) => ({ sparsity, attention })).filter((pair) => feasibleSplit(spec, sparsity, pair.attention)),
  )
}

function rowOf({ view }: Input, sparsity: number, attention: number, { reached, perplexity }: Measured): TableRow {
  return [sparsity, attention, chosenByEquation(view.spec, sparsity) === attention ? 'yes' : '', reached, perplexity].map((value) => ({
    value,
  }))
}

/** Returns Eq. 5's choice, or undefined if it is infeasible. */
function chosenByEquation(spec: Input['view']['spec'], sparsity: number): number | undefined {
  try {
    return splitTwoStage(spec, sparsity, 1.5).attention
  } catch {
    return undefined
  }
}

/** Marks the lowest perplexity of each sparsity. */
function markBest(rows: readonly TableRow[]): TableRow[] {
  const least = new Map<unknown, number>()
  for (const [sparsity, , , , score] of rows)
    least.set(sparsity?.value, Math.min(least.get(sparsity?.value) ?? Number.POSITIVE_INFINITY, Number(score?.value)))
  return rows.map((row) =>
    row.map((cell, column) => (column === 4 && cell.value === least.get(row[0]?.value) ? { ...cell, best: true } : cell)),
  )
}
