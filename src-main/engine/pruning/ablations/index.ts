import { z } from 'zod'
import { meanAndSpread } from '#contract/comparison/statistics.ts'
import type { Table, TableRow } from '#contract/comparison/table.ts'
import { EspalierError } from '#contract/errors.ts'
import { type AblationId, ablationTitles, methodTitles } from '#contract/titles.ts'
import { type DecoderSpec, hasExperts } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { count } from '#engine/pruning/method.ts'
import { feasibleSplit, splitTwoStage, type TwoStageOptions } from '#engine/pruning/methods/2ssp.ts'
import { nestedColumnNorms } from '#engine/pruning/scores/mlp-scores.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import {
  type Ablation,
  type AblationInput,
  type AblationResult,
  checkTrial,
  defineAblation,
  type Measured,
  measureTrial,
} from './ablation.ts'

const balancingOptions = z.object({
  sparsities: z
    .array(z.number().min(0).max(1))
    .nonempty()
    .default(Array.from({ length: 31 }, (_, i) => (i + 1) / 32) as [number, ...number[]])
    .meta({ title: 'Sparsities', help: 'Shares of the block stack; each is split in every possible way.' }),
  windows: count(32, { title: 'Windows', unit: 'windows', help: 'Calibration windows of the first stage.' }),
})

type BalancingInput = AblationInput<z.infer<typeof balancingOptions>>

/** Tries every possible split of a sparsity between attention and MLPs, and marks Eq. 5's choice. */
const balancing = defineAblation({
  title: ablationTitles.balancing_sparsity_ratio,
  summary: '2SSP with every number of attention submodules that a sparsity allows.',
  options: balancingOptions,
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

function rowOf({ view }: BalancingInput, sparsity: number, attention: number, { reached, perplexity }: Measured): TableRow {
  return [sparsity, attention, chosenByEquation(view.spec, sparsity) === attention ? 'yes' : '', reached, perplexity].map((value) => ({
    value,
  }))
}

/** Returns Eq. 5's choice, or undefined if it is infeasible. */
function chosenByEquation(spec: BalancingInput['view']['spec'], sparsity: number): number | undefined {
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

const calibrationOptions = z.object({
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

type CalibrationInput = AblationInput<z.infer<typeof calibrationOptions>>

/**
 * Studies how many calibration windows the first stage needs. A smaller sample is the start of a larger one with the same seed, so one pass
 * scores all sizes.
 */
const calibrationSize = defineAblation({
  title: ablationTitles.calibration,
  summary: '2SSP with more and more calibration windows, in several orders of the documents.',
  options: calibrationOptions,
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
  { view, run }: CalibrationInput,
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

const variantOptions = z.object({
  sparsities: z
    .array(z.number().min(0).max(1))
    .nonempty()
    .default([0.25, 0.375, 0.5])
    .meta({ title: 'Sparsities', help: 'Shares of the block stack that both variants remove.' }),
  windows: count(32, { title: 'Windows', unit: 'windows', help: 'Calibration windows of the first stage.' }),
})

type VariantOptions = z.infer<typeof variantOptions>
type Variant = readonly [name: string, options: Partial<TwoStageOptions>]

const reference: Variant = [methodTitles['2ssp'], {}]

interface Comparison {
  readonly title: string
  readonly summary: string
  /** The variant that 2SSP is compared with. */
  readonly variant: Variant
}

const oneStage = compare({
  title: ablationTitles.one_stage,
  summary: 'All of the sparsity comes from MLPs; no attention is removed.',
  variant: ['First stage only', { stages: 'first' }],
})

/** As in the reference, cut channels make up all of the sparsity, and attention is removed in addition. The reached sparsity shows this. */
const rowsVersusColumns = compare({
  title: ablationTitles.rows_vs_cols,
  summary: 'MLPs lose hidden channels that they read and write, instead of neurons.',
  variant: ['Hidden channels', { cut: 'channels', channelShare: 'whole' }],
})

const l1Norm = compare({
  title: ablationTitles.l1_norm,
  summary: 'Neurons are scored by the L1 norm instead of the L2 norm.',
  variant: ['L1 norm', { norm: 1 }],
})

function compare({ title, summary, variant }: Comparison): Ablation {
  return defineAblation({
    title,
    summary,
    options: variantOptions,
    check(spec, { sparsities }) {
      for (const sparsity of sparsities) for (const [, given] of [reference, variant]) checkTrial(spec, sparsity, given)
    },
    trials: (_, { sparsities, windows }) =>
      sparsities.flatMap((sparsity) => [reference, variant].map(([, given]) => ({ sparsity, options: { ...given, windows } }))),
    study: (input) => study(input, title, [reference, variant]),
  })
}

async function study(input: AblationInput<VariantOptions>, title: string, variants: readonly Variant[]): Promise<AblationResult> {
  const { options: chosen, evaluation, run } = input
  const calibration = await input.calibration(chosen.windows, 0)
  const rows: TableRow[] = []
  const series = variants.map(([name]) => ({ name, points: [] as { x: number; y: number }[] }))
  for (const sparsity of chosen.sparsities) {
    for (const [index, [name, given]] of variants.entries()) {
      run.progress(title, rows.length, chosen.sparsities.length * variants.length, 'models')
      const trial = { name: `${name} at ${sparsity}`, sparsity, options: { ...given, windows: chosen.windows }, calibration }
      const { reached, perplexity, seconds } = await measureTrial(input, trial)
      rows.push([name, sparsity, reached, perplexity, seconds].map((value) => ({ value })))
      series[index]?.points.push({ x: reached, y: perplexity })
    }
  }
  const columns = [
    { label: 'Variant', numeric: false },
    { label: 'Sparsity', numeric: true },
    { label: 'Reached', numeric: true },
    { label: `Perplexity on ${evaluation.name}`, numeric: true, better: 'lower' as const },
    { label: 'Seconds', numeric: true },
  ]
  const plot = {
    title,
    x: { label: 'Reached sparsity', scale: 'linear' },
    y: { label: `Perplexity on ${evaluation.name}`, scale: 'log' },
    series,
  } as const
  return { table: { columns, rows }, plot, notes: [] }
}

/** Every ablation, by the name that the command line uses. */
export const ablations = {
  calibration: calibrationSize,
  one_stage: oneStage,
  rows_vs_cols: rowsVersusColumns,
  l1_norm: l1Norm,
  balancing_sparsity_ratio: balancing,
} as const satisfies Record<AblationId, Ablation>

/** Returns the ablation with this name. Throws with the list of names if there is none. */
export function findAblation(id: string): Ablation {
  if (!Object.hasOwn(ablations, id))
    throw new EspalierError('usage', `There is no ablation "${id}". Choose one of: ${Object.keys(ablations).join(', ')}.`)
  return ablations[id as AblationId]
}
