import { z } from 'zod'
import { meanAndSpread } from '#contract/comparison/statistics.ts'
import type { Table, TableRow } from '#contract/comparison/table.ts'
import { ablationTitles } from '#contract/titles.ts'
import { hasExperts } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { nestedColumnNorms } from '../two-stage/neuron-norms.ts'
import { type AblationInput, type AblationResult, checkTrial, defineAblation, measureTrial } from './ablation.ts'

const options = z.object({
  sparsity: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .meta({ title: 'Sparsity', help: 'Share of the block stack’s parameters that each trial removes.' }),
  sizes: z
    .array(z.number().int().positive())
    .nonempty()
    .default([2, 4, 8, 16, 32, 64, 128, 256])
    .meta({ title: 'Sizes', unit: 'windows', help: 'Numbers of calibration windows to score the neurons with.' }),
  seeds: z
    .array(z.number().int().nonnegative())
    .nonempty()
    .default([0, 1, 2, 3, 4])
    .meta({ title: 'Seeds', help: 'Each seed draws the windows in another order; 0 keeps the order of the text.' }),
})

type Input = AblationInput<z.infer<typeof options>>

/**
 * Studies how many calibration windows the first stage needs. A smaller sample is the start of a larger one with the same seed, so one pass
 * scores all sizes.
 */
export const calibrationSize = defineAblation({
  title: ablationTitles.calibration,
  summary: '2SSP with more and more calibration windows, in several orders of the documents.',
  options,
  check(spec, { sparsity }) {
    if (spec.router) throw hasExperts()
    checkTrial(spec, sparsity, {})
  },
  trials: (_, { sparsity, sizes, seeds }) => seeds.flatMap(() => sizes.map((windows) => ({ sparsity, options: { windows } }))),
  async study(input) {
    const { options: chosen, evaluation, run } = input
    const rows: TableRow[] = []
    const notes: string[] = []
    const found = new Map<number, number[]>()
    for (const seed of chosen.seeds) {
      const windows = await input.calibration(Math.max(...chosen.sizes), seed)
      const sizes = chosen.sizes.filter((size) => size <= windows.length)
      if (sizes.length < chosen.sizes.length)
        notes.push(`Seed ${seed}: the text has only ${windows.length} windows, so larger sizes were skipped.`)
      const scores = await scoresBySize(input, windows, sizes, seed)
      for (const [index, size] of sizes.entries()) {
        run.progress(ablationTitles.calibration, rows.length, chosen.seeds.length * chosen.sizes.length, 'models')
        const trial = {
          name: `${size} windows, seed ${seed}`,
          sparsity: chosen.sparsity,
          options: {},
          calibration: windows,
          scores: { neurons: scores.neurons[index] ?? [] },
        }
        const { perplexity, seconds } = await measureTrial(input, trial)
        rows.push([size, seed, perplexity, seconds + (scores.seconds * size) / windows.length].map((value) => ({ value })))
        found.set(size, [...(found.get(size) ?? []), perplexity])
      }
    }
    return { ...describe(rows, found, chosen.sparsity, `Perplexity on ${evaluation.name}`), notes }
  },
})

function describe(rows: TableRow[], found: Map<number, number[]>, sparsity: number, perplexity: string): Omit<AblationResult, 'notes'> {
  const points = [...found].map(([x, values]) => ({ x, y: meanAndSpread(values).mean, spread: meanAndSpread(values).spread ?? 0 }))
  const columns: Table['columns'] = [
    { label: 'Windows', numeric: true },
    { label: 'Seed', numeric: true },
    { label: perplexity, numeric: true, better: 'lower' },
    { label: 'Seconds', numeric: true },
  ]
  return {
    table: { columns, rows },
    plot: {
      title: `Calibration windows at sparsity ${sparsity}`,
      x: { label: 'Calibration windows', scale: 'log' },
      y: { label: perplexity, scale: 'linear' },
      series: [{ name: 'Mean over seeds, with standard deviation', points }],
    },
  }
}

/** Not shared between runs, because its result holds its own time. */
const nestedNormsStep: StepKind = { version: 1, reach: 'own' }

function scoresBySize(
  { view, run }: Input,
  windows: Windows,
  sizes: readonly number[],
  seed: number,
): Promise<{ neurons: number[][][]; seconds: number }> {
  const label = `neuron norms of ${sizes.join(', ')} windows, seed ${seed}`
  return run.step({ kind: nestedNormsStep, label, on: { windows, sizes } }, async () => {
    const start = performance.now()
    const request = { site: 'neurons', norm: 'l2' } as const
    const norms = await nestedColumnNorms(view, windows.slice(0, Math.max(...sizes)), [request], sizes, { signal: run.signal })
    const neurons = sizes.map((size) => (norms.get(request)?.get(size) ?? []).map((block) => [...block]))
    return { neurons, seconds: (performance.now() - start) / 1000 }
  })
}
