import type { DataRequest } from '#contract/data/data-request.ts'
import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { FeasibleRange } from '#contract/models/models.ts'
import { usualRepetition } from '#contract/protocol.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import { recoveryTokens, untrainable } from '#contract/pruning/recovery.ts'
import { defaultRepairData, defaultRepairWindows } from '#contract/pruning/repair.ts'
import { mixedBudget } from '#contract/runs/amount-text.ts'
import type { Amount, MeasureRequest } from '#contract/runs/run-request.ts'
import { bundledTitles, type GgufType, type WeightType } from '#contract/titles.ts'

/** The reference's sparsities: a quarter, three eighths and half of the block stack. */
const paperAmounts = [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }]
const endAmounts = [{ sparsity: 0.25 }, { sparsity: 0.5 }]
const paperSequenceLength = 2048
/** Window length and numbers of windows for a first look: even a model of 100,000,000 parameters takes only minutes on a processor. */
const quick = { sequenceLength: 512, windows: 32, measuredWindows: 16 }

/** Gates for a first look: a quarter of the steps, which leaves a tenth more perplexity on the sample model at 50 %. */
export const brief = { method: 'gates', options: { steps: 30 } }

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

/** GGUF types for the dense model, chosen so that each pruned file has a dense rival of about the same size. */
export const denseTypes: GgufType[] = ['F16', 'Q8_0', 'Q6_K', 'Q4_K_M', 'Q4_0', 'Q3_K_M', 'Q2_K', 'IQ3_XXS', 'IQ2_M']
/** Texts that calibration, repair and recovery never read. The verdict depends only on these. */
const unseen = ['prose', 'code'] as const
/** Tokens per window and prompt, windows per text, and timings per file: enough for a verdict in minutes on a small model. */
const [windowTokens, windows, repeats] = [512, 8, 3]

/** Windows of the user's own text that decide, at most. */
const decidingWindows = 16

/** Half the default number: a recovery follows, and a repair on this many windows already takes as long as the recovery. */
const repairWindows = 48

/** The largest number of siblings. Each adds as many runs as the dense model. */
const mostSiblings = 2

const reasons = {
  amounts: 'Three amounts show where quality begins to fall.',
  repair: 'A pruned model is compared at its best.',
  recovery: `The shortest training, after a repair on ${repairWindows} windows instead of ${defaultRepairWindows}. If a file almost wins, train it longer.`,
}
const mixedReasons = {
  amounts: 'Each size is divided between parts and bits: what costs less than the bits for its bytes is removed.',
  repair: 'None. Little is removed, and a repair takes longest.',
  recovery: 'None. Little is removed.',
}
const measured = 'The verdict uses only text that pruning, repair and recovery never saw. Loops show damage that perplexity hides.'
const ownMeasured = 'Your text decides, by a part that no choice reads. Prose shows what the model loses elsewhere.'
const timed = `${measured} Each file is timed in llama.cpp, alternating with the unpruned model in F16.`

interface Goal extends Omit<Draft, 'grid' | 'reasons'> {
  /** The reason shown for `weights`. */
  readonly why: string
  readonly weights: WeightType[]
  readonly rivals: WeightType[]
  /** Whether files are timed. */
  readonly times: boolean
  /** Whether the model is pruned for a text of the user's own, a part of which decides. */
  readonly own?: boolean
  /** Whether files of three sizes with a type chosen for each matrix are made, of the unpruned model and with parts removed where that is cheaper than fewer bits. */
  readonly mixed?: boolean
}

const goals: readonly Goal[] = [
  {
    id: 'worth-it',
    title: 'Is it worth it?',
    summary: `Compares pruned files with the unpruned model in ${denseTypes.length} GGUF types: size, speed, quality and loops.`,
    why: 'F16 shows pruning alone, the other types pruning plus quantisation.',
    weights: ['F16', 'Q8_0', 'Q4_K_M'],
    rivals: denseTypes,
    times: true,
  },
  {
    id: 'smaller-file',
    title: 'Smaller file',
    goal: 'A smaller file',
    summary: 'Whether a pruned file beats an unpruned one of its size.',
    why: 'Small types for pruned and unpruned files. Only size counts, so nothing is timed.',
    weights: ['Q8_0', 'Q4_K_M', 'Q3_K_M'],
    rivals: denseTypes,
    times: false,
  },
  {
    id: 'best-file',
    title: 'Best file of a size',
    goal: 'The best file of a size',
    summary: 'Chooses the weight type of each matrix for three file sizes, and removes what costs less than bits.',
    why: 'Mixed types at three sizes, beside llama.cpp’s own mixes.',
    weights: [],
    rivals: ['Q4_K_M', 'IQ4_XS', 'Q3_K_M', 'IQ3_XXS', 'IQ2_M'],
    times: false,
    mixed: true,
  },
  {
    id: 'own-work',
    title: 'For my work',
    goal: 'For what I do',
    summary:
      'Prunes for your own text: code, notes, chats, questions with answers. A fifth of it is kept to decide, and other text shows the cost elsewhere.',
    why: 'Small types for pruned and unpruned files. Only size counts, so nothing is timed.',
    weights: ['Q8_0', 'Q4_K_M', 'Q3_K_M'],
    rivals: denseTypes,
    times: false,
    own: true,
  },
  {
    id: 'first-token',
    title: 'Faster first token',
    goal: 'A faster first token',
    summary: 'Whether pruning shortens the wait for an answer more than quantising does.',
    why: 'Prompts are read fastest in types that are quick to unpack.',
    weights: ['F16', 'Q8_0', 'Q4_0'],
    rivals: ['Q4_K_M'],
    times: true,
  },
  {
    id: 'faster-writing',
    title: 'Faster writing',
    goal: 'Faster writing',
    summary: 'Whether a pruned file writes more tokens per second than a quantised one.',
    why: 'Each token reads all weights once, so smaller files write faster.',
    weights: ['Q8_0', 'Q4_0', 'Q4_K_M'],
    rivals: ['F16', 'Q3_K_M', 'Q2_K'],
    times: true,
  },
]

/** Returns presets that compare pruned files with dense ones, in the weight types that matter for each goal. */
function worthDrafts(
  model: PresetModel,
  catalogue: Catalogue,
  { isMixture, calibration }: { isMixture: boolean; calibration: DataRequest | undefined },
): Draft[] {
  const best = bestMethod(model, true)
  const ownText: DataRequest = {
    source: '',
    sequenceLength: Math.min(windowTokens, model.contextLength),
    split: { part: 'choosing', seed: 0 },
  }
  // The types of experts are not chosen, and only gates divide bytes between parts and bits.
  const offered = goals.filter(({ mixed }) => !mixed || (!isMixture && best.id === 'gates'))
  return offered.map(({ why, weights: plain, rivals, times, own = false, mixed = false, ...preset }) => {
    const chosen = own ? ownText : calibration
    const sizes = mixed ? mixedSizes(model) : []
    const weights = [...plain, ...sizes.flatMap((amount) => mixedBudget(amount) ?? [])]
    return {
      ...preset,
      reasons: {
        ...(mixed ? mixedReasons : reasons),
        methods: best.reason,
        ...(isMixture ? { recovery: untrainable } : {}),
        weights: why,
        measures: own ? ownMeasured : times ? timed : measured,
      },
      grid: {
        methods: [{ method: best.id, options: {} }],
        amounts: mixed ? sizes : [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
        // A repair and a recovery take longest, and little is removed from a file of mixed types.
        repairs: [mixed ? 'none' : 'in-order'],
        ...(chosen ? { calibration: chosen } : {}),
        ...(isMixture || mixed ? {} : recovered(chosen)),
        weights,
        ...(model.siblings.length > 0 ? { siblings: model.siblings.slice(0, mostSiblings) } : {}),
        rivals: rivals.filter((type) => !weights.includes(type)),
        measures: own ? ownMeasures(model, ownText) : measuresOf(model, catalogue, times),
        precision: 'auto',
      },
    }
  })
}

/**
 * Three sizes for files of mixed types, in bits for each parameter. Types of fewer than 4.5 bits need rows of a multiple of 256 values, so
 * models with other rows have larger files.
 */
function mixedSizes({ parameters, hidden }: PresetModel): Amount[] {
  const bits = hidden % 256 === 0 ? [4.75, 4, 3.25] : [6, 5.5, 5]
  return bits.map((each) => {
    const bytes = Math.ceil((parameters * each) / 8 / 1e5) * 1e5
    return { bytes, format: 'gguf', type: `MIXED:${bytes}` }
  })
}

const recovered = (calibration: DataRequest | undefined): Pick<Grid, 'recoveries' | 'repairData'> => ({
  recoveries: [{ tokens: recoveryTokens[0] }],
  ...(calibration ? { repairData: { ...defaultRepairData(calibration), windows: repairWindows } } : {}),
})

/** The measures of a model that is pruned for `text`: on the part of it that decides, and on prose. The name follows the text. */
function ownMeasures({ contextLength }: PresetModel, text: DataRequest): MeasureRequest[] {
  const deciding: DataRequest = { ...text, split: { part: 'deciding', seed: text.split?.seed ?? 0 }, windows: decidingWindows }
  return [
    { kind: 'perplexity', data: deciding, name: '' },
    { kind: 'perplexity', data: { source: 'prose', sequenceLength: text.sequenceLength, windows }, name: bundledTitles.prose },
    usualRepetition(deciding, '', contextLength),
  ]
}

function measuresOf({ contextLength }: PresetModel, { datasets }: Catalogue, times: boolean): MeasureRequest[] {
  const sequenceLength = Math.min(windowTokens, contextLength)
  const texts = unseen.filter((id) => datasets.some(({ source }) => source === id))
  const [first] = texts
  return [
    ...texts.map((source) => ({ kind: 'perplexity' as const, data: { source, sequenceLength, windows }, name: bundledTitles[source] })),
    ...(first ? [usualRepetition({ source: first }, bundledTitles[first], contextLength)] : []),
    ...(times ? [{ kind: 'inference' as const, sequenceLength, repeats }] : []),
  ]
}

/** What presets need to know about the chosen model. */
interface PresetModel {
  id: string
  contextLength: number
  /** Parameters of the whole model, and its hidden size. */
  parameters: number
  hidden: number
  /** Whether the model is the bundled sample or was pruned from it. */
  ofSample: boolean
  /** Whether a GGUF file can hold the model after pruning by its best method. */
  holdsGguf: boolean
  /** Ids of smaller models of the same family in the library. */
  siblings: readonly string[]
  feasible: readonly Pick<FeasibleRange, 'method' | 'maximum'>[]
}

/** Returns the id of the method that keeps most of a model, and the reason to choose it. `inGguf` is set if GGUF files must hold the result. */
export function bestMethod({ feasible }: Pick<PresetModel, 'feasible'>, inGguf = false): { id: string; reason: string } {
  const mostOf = (id: string) => feasible.find(({ method }) => method === id)?.maximum
  if (mostOf('gates') === 0) return { id: '2ssp', reason: '2SSP, because gates cannot be trained through this model’s attention sinks.' }
  if (inGguf && mostOf('reap') !== 0)
    return { id: '2ssp', reason: '2SSP, because gates leave blocks different numbers of experts, which GGUF files cannot hold.' }
  return { id: 'gates', reason: 'Gates keep most of a model, because they follow the loss of the whole model.' }
}

/** A preset, given by its differences from the default grid. */
type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
