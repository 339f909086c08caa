import type { DataRequest } from '#contract/data/data-request.ts'
import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'

/** The reference's sparsities: a quarter, three eighths and half of the block stack. */
const paperAmounts = [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }]
const paperSequenceLength = 2048

export interface PresetModel {
  id: string
  contextLength: number
}

/** Ready-made grids. Methods that this version lacks are left out. */
export function presetsFor(model: PresetModel, { methods, datasets, tasks }: Catalogue): Preset[] {
  const known = new Set(methods.map(({ id }) => id))
  const sequenceLength = Math.min(paperSequenceLength, model.contextLength)
  const source = (use: 'calibration' | 'evaluation') => {
    const fitting = datasets.filter(({ uses }) => uses.includes(use))
    return (fitting.find(({ present }) => present) ?? fitting[0])?.source
  }
  const data = (use: 'calibration' | 'evaluation', windows?: number): DataRequest | undefined => {
    const found = source(use)
    return found === undefined ? undefined : { source: found, sequenceLength, ...(windows === undefined ? {} : { windows }) }
  }
  const perplexity = (windows?: number): MeasureRequest[] => {
    const evaluation = data('evaluation', windows)
    return evaluation ? [{ kind: 'perplexity', data: evaluation, name: titleOf(evaluation.source, datasets) }] : []
  }
  const base = (change: Partial<Grid>): Grid => {
    const calibration = data('calibration')
    return {
      models: [model.id],
      methods: [],
      amounts: [],
      seeds: [0],
      measures: perplexity(),
      backend: 'auto',
      ...(calibration ? { calibration } : {}),
      ...change,
    }
  }
  const everything: MeasureRequest[] = [
    ...perplexity(),
    ...(tasks.length > 0 ? [{ kind: 'tasks' as const, tasks: tasks.map(({ id }) => id) }] : []),
    { kind: 'inference', sequenceLength, repeats: 5 },
  ]
  const variants = (method: string, option: string, values: unknown[]) => values.map((value) => ({ method, options: { [option]: value } }))
  const presets: Preset[] = [
    {
      id: 'quick-look',
      title: 'Quick look',
      summary: '2SSP and ShortGPT at a quarter and at half, measured on a few windows.',
      grid: base({ methods: plain(['2ssp', 'shortgpt']), amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }], measures: perplexity(8) }),
    },
    {
      id: 'paper-table',
      title: 'Paper’s table',
      summary: 'Every method at 25, 37.5 and 50 %, with perplexity, tasks and speed.',
      grid: base({ methods: plain(methods.map(({ id }) => id)), amounts: paperAmounts, measures: everything }),
    },
    {
      id: 'ablation-alpha',
      title: 'Ablation: balance',
      summary: 'How 2SSP divides the sparsity between attention and MLPs (alpha of Eq. 5).',
      grid: base({ methods: variants('2ssp', 'alpha', [0.5, 1, 1.5, 2, 3]), amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }] }),
    },
    {
      id: 'ablation-norm',
      title: 'Ablation: norm',
      summary: 'L1 against L2 for the neuron scores of stage 1.',
      grid: base({ methods: variants('2ssp', 'norm', [1, 2]), amounts: paperAmounts }),
    },
    {
      id: 'ablation-seeds',
      title: 'Ablation: seeds',
      summary: 'The spread of 2SSP at half over five draws of the calibration windows.',
      grid: base({ methods: plain(['2ssp']), amounts: [{ sparsity: 0.5 }], seeds: [0, 1, 2, 3, 4] }),
    },
  ]
  return presets
    .map((preset) => ({ ...preset, grid: { ...preset.grid, methods: preset.grid.methods.filter(({ method }) => known.has(method)) } }))
    .filter(({ grid }) => grid.methods.length > 0)
}

function plain(ids: string[]): Grid['methods'] {
  return ids.map((method) => ({ method, options: {} }))
}

function titleOf(source: string, datasets: Catalogue['datasets']): string {
  return datasets.find((entry) => entry.source === source)?.title ?? source
}
