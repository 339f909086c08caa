import { z } from 'zod'
import type { TableRow } from '#contract/table.ts'
import { feasibleSplit, splitTwoStage } from '../two-stage/split.ts'
import { type AblationInput, defineAblation, type Measured, measureTrial } from './ablation.ts'

const options = z.object({
  sparsities: z
    .array(z.number().min(0).max(1))
    .nonempty()
    .default(Array.from({ length: 31 }, (_, i) => (i + 1) / 32) as [number, ...number[]]),
  windows: z.number().int().positive().default(32),
})

type Input = AblationInput<z.infer<typeof options>>

/** Every division of a sparsity among attention and MLPs that can be reached; Eq. 5's choice is marked. */
export const balancing = defineAblation({
  title: 'Balance of attention and MLPs',
  summary: '2SSP with every number of attention submodules that a sparsity allows.',
  options,
  windows: ({ windows }) => windows,
  async study(input) {
    const { view, options: chosen, evaluation, run } = input
    const calibration = await input.calibration(chosen.windows, 0)
    const count = view.spec.blocks.length
    const pairs = chosen.sparsities.flatMap((sparsity) =>
      Array.from({ length: count }, (_, attention) => ({ sparsity, attention })).filter((pair) =>
        feasibleSplit(view.spec, pair.sparsity, pair.attention),
      ),
    )
    const rows: TableRow[] = []
    const series = chosen.sparsities.map((sparsity) => ({
      name: `Sparsity ${Number(sparsity.toFixed(4))}`,
      points: [] as { x: number; y: number }[],
    }))
    for (const { sparsity, attention } of pairs) {
      run.progress('Balance of attention and MLPs', rows.length, pairs.length, 'models')
      const trial = {
        name: `${attention} attention at ${sparsity}`,
        sparsity,
        options: { attention, windows: chosen.windows },
        calibration,
      }
      const measured = await measureTrial(input, trial)
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
        title: 'Balance of attention and MLPs',
        x: { label: 'Attention submodules removed', scale: 'linear' },
        y: { label: `Perplexity on ${evaluation.name}`, scale: 'log' },
        series: series.filter(({ points }) => points.length > 0),
      },
      notes: [],
    }
  },
})

function rowOf({ view }: Input, sparsity: number, attention: number, { reached, perplexity }: Measured): TableRow {
  return [sparsity, attention, chosenByEquation(view.spec, sparsity) === attention ? 'yes' : '', reached, perplexity].map((value) => ({
    value,
  }))
}

/** What Eq. 5 gives, where it is feasible. */
function chosenByEquation(spec: Input['view']['spec'], sparsity: number): number | undefined {
  try {
    return splitTwoStage(spec, sparsity, 1.5).attention
  } catch {
    return undefined
  }
}

/** Marks the least perplexity of each sparsity. */
function markBest(rows: readonly TableRow[]): TableRow[] {
  const least = new Map<unknown, number>()
  for (const [sparsity, , , , score] of rows)
    least.set(sparsity?.value, Math.min(least.get(sparsity?.value) ?? Number.POSITIVE_INFINITY, Number(score?.value)))
  return rows.map((row) =>
    row.map((cell, column) => (column === 4 && cell.value === least.get(row[0]?.value) ? { ...cell, best: true } : cell)),
  )
}
