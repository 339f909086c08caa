import { z } from 'zod'
import type { TableRow } from '#contract/comparison/table.ts'
import { ablationTitles, methodTitles } from '#contract/titles.ts'
import type { TwoStageOptions } from '../methods/2ssp.ts'
import { count } from '../options.ts'
import { type Ablation, type AblationInput, type AblationResult, checkTrial, defineAblation, measureTrial } from './ablation.ts'

const options = z.object({
  sparsities: z
    .array(z.number().min(0).max(1))
    .nonempty()
    .default([0.25, 0.375, 0.5])
    .meta({ title: 'Sparsities', help: 'Shares of the block stack that both variants remove.' }),
  windows: count(32, { title: 'Windows', unit: 'windows', help: 'Calibration windows of the first stage.' }),
})

type Options = z.infer<typeof options>
type Variant = readonly [name: string, options: Partial<TwoStageOptions>]

const reference: Variant = [methodTitles['2ssp'], {}]

interface Comparison {
  readonly title: string
  readonly summary: string
  /** The variant that 2SSP is compared with. */
  readonly variant: Variant
}

export const oneStage = compare({
  title: ablationTitles.one_stage,
  summary: 'All of the sparsity comes from MLPs; no attention is removed.',
  variant: ['First stage only', { stages: 'first' }],
})

/** As in the reference, cut channels make up all of the sparsity, and attention is removed in addition. The reached sparsity shows this. */
export const rowsVersusColumns = compare({
  title: ablationTitles.rows_vs_cols,
  summary: 'MLPs lose hidden channels that they read and write, instead of neurons.',
  variant: ['Hidden channels', { cut: 'channels', channelShare: 'whole' }],
})

export const l1Norm = compare({
  title: ablationTitles.l1_norm,
  summary: 'Neurons are scored by the L1 norm instead of the L2 norm.',
  variant: ['L1 norm', { norm: 1 }],
})

function compare({ title, summary, variant }: Comparison): Ablation {
  return defineAblation({
    title,
    summary,
    options,
    check(spec, { sparsities }) {
      for (const sparsity of sparsities) for (const [, given] of [reference, variant]) checkTrial(spec, sparsity, given)
    },
    trials: (_, { sparsities, windows }) =>
      sparsities.flatMap((sparsity) => [reference, variant].map(([, given]) => ({ sparsity, options: { ...given, windows } }))),
    study: (input) => study(input, title, [reference, variant]),
  })
}

async function study(input: AblationInput<Options>, title: string, variants: readonly Variant[]): Promise<AblationResult> {
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
