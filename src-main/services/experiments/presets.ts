import type { DataRequest } from '#contract/data/data-request.ts'
import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import { bestMethod, type Draft, type PresetModel } from './preset-draft.ts'
import { worthDrafts } from './worth-presets.ts'

/** The reference's sparsities: a quarter, three eighths and half of the block stack. */
const paperAmounts = [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }]
const endAmounts = [{ sparsity: 0.25 }, { sparsity: 0.5 }]
const paperSequenceLength = 2048
/** Window length and numbers of windows for a first look: even a model of 100,000,000 parameters takes only minutes on a processor. */
const quick = { sequenceLength: 512, windows: 32, measuredWindows: 16 }

/** Gates for a first look: a quarter of the steps, which leaves a tenth more perplexity on the sample model at 50 %. */
const brief = { method: 'gates', options: { steps: 30 } }

type Use = 'calibration' | 'evaluation'

/** Ready-made grids. Omits methods that this version lacks or that can remove nothing from this model. */
export function presetsFor(model: PresetModel, catalogue: Catalogue): Preset[] {
  const none = new Set(model.feasible.filter(({ maximum }) => maximum === 0).map(({ method }) => method))
  const known = new Set(catalogue.methods.map(({ id }) => id).filter((id) => !none.has(id)))
  const calibration = usualData(model, catalogue, 'calibration')
  const usual: Grid = {
    models: [model.id],
    methods: [],
    amounts: [],
    seeds: [0],
    measures: perplexity(model, catalogue),
    beginToken: 'auto',
    backend: 'auto',
    ...(calibration ? { calibration } : {}),
  }
  return drafts(model, catalogue, known.has('reap'))
    .map(({ grid, ...preset }) => ({ ...preset, grid: { ...usual, ...grid } }))
    .map((preset) => ({ ...preset, grid: { ...preset.grid, methods: preset.grid.methods.filter(({ method }) => known.has(method)) } }))
    .filter(({ grid }) => grid.methods.length > 0)
}

/** Presets that do not depend on the model or the catalogue. */
const variations: readonly Draft[] = [
  {
    id: 'experts',
    title: 'Fewer experts',
    summary: 'Two REAP runs: one removes an eighth of the experts, one removes a quarter.',
    grid: { methods: plain(['reap']), amounts: [{ experts: 0.125 }, { experts: 0.25 }] },
  },
  {
    id: 'ablation-alpha',
    title: 'Ablation: balance',
    summary: 'How 2SSP splits the sparsity between attention and MLPs (alpha in Eq. 5).',
    grid: { methods: variants('2ssp', 'alpha', [0.5, 1, 1.5, 2, 3]), amounts: endAmounts },
  },
  {
    id: 'ablation-norm',
    title: 'Ablation: norm',
    summary: 'L1 or L2 norm for the neuron scores of stage 1.',
    grid: { methods: variants('2ssp', 'norm', [1, 2]), amounts: paperAmounts },
  },
  {
    id: 'ablation-seeds',
    title: 'Ablation: seeds',
    summary: 'How 2SSP at 50 % varies over five samples of the calibration text.',
    grid: { methods: plain(['2ssp']), amounts: [{ sparsity: 0.5 }], seeds: [0, 1, 2, 3, 4] },
  },
]

/** Returns all presets for a model, each by its differences from the default grid. */
function drafts(model: PresetModel, catalogue: Catalogue, isMixture: boolean): Draft[] {
  const best = bestMethod(model).id
  return [
    {
      id: 'quick-look',
      title: 'Quick look',
      summary: `${best === 'gates' ? 'Gates, trained briefly, and 2SSP' : '2SSP and ShortGPT'} at 25 and 50 %, on a few short windows.`,
      grid: {
        methods: best === 'gates' ? [brief, ...plain(['2ssp'])] : plain(['2ssp', 'shortgpt']),
        amounts: endAmounts,
        ...quickTexts(model, catalogue),
      },
    },
    ...(model.holdsGguf
      ? worthDrafts(model, catalogue, { isMixture, calibration: usualData(shortened(model), catalogue, 'calibration') })
      : []),
    {
      id: 'paper-table',
      title: 'Paper’s table',
      goal: 'Reproduce the paper',
      reasons: {
        amounts: 'The sparsities of the paper’s tables.',
        methods: 'Every method that removes from the blocks of dense models, including those in the paper.',
        repair: 'None, as in the paper.',
        measures: 'What the paper measures.',
      },
      summary: 'Every method for the blocks of dense models at 25, 37.5 and 50 %, with perplexity, tasks and speed.',
      grid: {
        methods: plain(catalogue.methods.filter(({ unit }) => unit !== 'experts' && unit !== 'vocabulary').map(({ id }) => id)),
        amounts: paperAmounts,
        measures: everything(model, catalogue),
        beginToken: 'reference',
      },
    },
    ...variations,
  ]
}

/** Returns few short windows, for a first look. The sample model is small enough for windows of full length. */
function quickTexts(model: PresetModel, catalogue: Catalogue): Pick<Grid, 'measures' | 'calibration'> {
  if (model.ofSample) return { measures: perplexity(model, catalogue, 8) }
  const short = shortened(model)
  const calibration = usualData(short, catalogue, 'calibration', quick.windows)
  return { measures: perplexity(short, catalogue, quick.measuredWindows), ...(calibration && { calibration }) }
}

/** Limits the context length of a model, so that windows stay short. */
const shortened = (model: PresetModel): PresetModel => ({ ...model, contextLength: Math.min(quick.sequenceLength, model.contextLength) })

/** Returns a data set for this use: one on this machine, else the first. The sample's own texts are used for no other model. */
function usualData({ contextLength, ofSample }: PresetModel, { datasets }: Catalogue, use: Use, windows?: number): DataRequest | undefined {
  const fitting = datasets.filter((dataset) => dataset.uses.includes(use) && (ofSample || !dataset.ofSample))
  const source = (fitting.find(({ present }) => present) ?? fitting[0])?.source
  const sequenceLength = Math.min(paperSequenceLength, contextLength)
  return source === undefined ? undefined : { source, sequenceLength, ...(windows === undefined ? {} : { windows }) }
}

function perplexity(model: PresetModel, catalogue: Catalogue, windows?: number): MeasureRequest[] {
  const data = usualData(model, catalogue, 'evaluation', windows)
  return data ? [{ kind: 'perplexity', data, name: titleOf(data.source, catalogue.datasets) }] : []
}

function everything(model: PresetModel, catalogue: Catalogue): MeasureRequest[] {
  const tasks = catalogue.tasks.map(({ id }) => id)
  return [
    ...perplexity(model, catalogue),
    ...(tasks.length > 0 ? [{ kind: 'tasks' as const, tasks }] : []),
    { kind: 'inference', sequenceLength: Math.min(paperSequenceLength, model.contextLength), repeats: 5 },
  ]
}

function variants(method: string, option: string, values: unknown[]): Grid['methods'] {
  return values.map((value) => ({ method, options: { [option]: value } }))
}

function plain(ids: string[]): Grid['methods'] {
  return ids.map((method) => ({ method, options: {} }))
}

function titleOf(source: string, datasets: Catalogue['datasets']): string {
  return datasets.find((entry) => entry.source === source)?.title ?? source
}
