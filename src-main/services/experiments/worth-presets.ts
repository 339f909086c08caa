import type { DataRequest } from '#contract/data/data-request.ts'
import type { Grid } from '#contract/experiments/experiments.ts'
import { usualRepetition } from '#contract/protocol.ts'
import { recoveryTokens, untrainable } from '#contract/pruning/default-recovery.ts'
import { defaultRepairData, defaultRepairWindows } from '#contract/pruning/default-repair.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import { bundledTitles, type GgufType } from '#contract/titles.ts'
import type { Draft, PresetModel } from './preset-draft.ts'

/** GGUF types for the dense model, chosen so that each pruned file has a dense rival of about the same size. */
const denseTypes: GgufType[] = ['F16', 'Q8_0', 'Q6_K', 'Q4_K_M', 'Q4_0', 'Q3_K_M', 'Q2_K', 'IQ3_XXS', 'IQ2_M']
/** Texts that calibration, repair and recovery never read. The verdict depends only on these. */
const unseen = ['prose', 'code'] as const
/** Tokens per window and prompt, windows per text, and timings per file: enough for a verdict in minutes on a small model. */
const [windowTokens, windows, repeats] = [512, 8, 3]

/** Half the default number: a recovery follows, and a repair on this many windows already takes as long as the recovery. */
const repairWindows = 48

/** The largest number of siblings. Each adds as many runs as the dense model. */
const mostSiblings = 2

const reasons = {
  amounts: 'Three amounts show where quality begins to fall.',
  methods: '2SSP narrows MLPs and removes attention.',
  repair: 'A pruned model is compared at its best.',
  recovery: `The shortest training, after a repair on ${repairWindows} windows instead of ${defaultRepairWindows}. If a file almost wins, train it longer.`,
}
const measured = 'The verdict uses only text that pruning, repair and recovery never saw. Loops show damage that perplexity hides.'
const timed = `${measured} Each file is timed in llama.cpp, alternating with the unpruned model in F16.`

interface Goal extends Omit<Draft, 'grid' | 'reasons'> {
  /** The reason shown for `weights`. */
  readonly why: string
  readonly weights: GgufType[]
  readonly rivals: GgufType[]
  /** Whether files are timed. */
  readonly times: boolean
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
export function worthDrafts(
  model: PresetModel,
  catalogue: Catalogue,
  { isMixture, calibration }: { isMixture: boolean; calibration: DataRequest | undefined },
): Draft[] {
  return goals.map(({ why, weights, rivals, times, ...preset }) => ({
    ...preset,
    reasons: { ...reasons, ...(isMixture ? { recovery: untrainable } : {}), weights: why, measures: times ? timed : measured },
    grid: {
      methods: [{ method: '2ssp', options: {} }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
      repairs: ['in-order'],
      ...(calibration ? { calibration } : {}),
      ...(isMixture ? {} : recovered(calibration)),
      weights,
      ...(model.siblings.length > 0 ? { siblings: model.siblings.slice(0, mostSiblings) } : {}),
      rivals: rivals.filter((type) => !weights.includes(type)),
      measures: measuresOf(model, catalogue, times),
      precision: 'auto',
    },
  }))
}

const recovered = (calibration: DataRequest | undefined): Pick<Grid, 'recoveries' | 'repairData'> => ({
  recoveries: [{ tokens: recoveryTokens[0] }],
  ...(calibration ? { repairData: { ...defaultRepairData(calibration), windows: repairWindows } } : {}),
})

function measuresOf({ contextLength }: PresetModel, { datasets }: Catalogue, times: boolean): MeasureRequest[] {
  const sequenceLength = Math.min(windowTokens, contextLength)
  const texts = unseen.filter((id) => datasets.some(({ source }) => source === id))
  const [first] = texts
  return [
    ...texts.map((source) => ({ kind: 'perplexity' as const, data: { source, sequenceLength, windows }, name: bundledTitles[source] })),
    ...(first ? [usualRepetition(first, bundledTitles[first], contextLength)] : []),
    ...(times ? [{ kind: 'inference' as const, sequenceLength, repeats }] : []),
  ]
}
