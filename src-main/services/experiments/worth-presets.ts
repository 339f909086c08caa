import type { DataRequest } from '#contract/data/data-request.ts'
import type { Grid } from '#contract/experiments/experiments.ts'
import { usualRepetition } from '#contract/protocol.ts'
import { recoveryTokens, untrainable } from '#contract/pruning/default-recovery.ts'
import { defaultRepairData, defaultRepairWindows } from '#contract/pruning/default-repair.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import { bundledTitles, type GgufType } from '#contract/titles.ts'
import { bestMethod, type Draft, type PresetModel } from './preset-draft.ts'

/** GGUF types for the dense model, chosen so that each pruned file has a dense rival of about the same size. */
const denseTypes: GgufType[] = ['F16', 'Q8_0', 'Q6_K', 'Q4_K_M', 'Q4_0', 'Q3_K_M', 'Q2_K', 'IQ3_XXS', 'IQ2_M']
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
const measured = 'The verdict uses only text that pruning, repair and recovery never saw. Loops show damage that perplexity hides.'
const ownMeasured = 'Your text decides, by a part that no choice reads. Prose shows what the model loses elsewhere.'
const timed = `${measured} Each file is timed in llama.cpp, alternating with the unpruned model in F16.`

interface Goal extends Omit<Draft, 'grid' | 'reasons'> {
  /** The reason shown for `weights`. */
  readonly why: string
  readonly weights: GgufType[]
  readonly rivals: GgufType[]
  /** Whether files are timed. */
  readonly times: boolean
  /** Whether the model is pruned for a text of the user's own, a part of which decides. */
  readonly own?: boolean
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
export function worthDrafts(
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
  return goals.map(({ why, weights, rivals, times, own = false, ...preset }) => {
    const chosen = own ? ownText : calibration
    return {
      ...preset,
      reasons: {
        ...reasons,
        methods: best.reason,
        ...(isMixture ? { recovery: untrainable } : {}),
        weights: why,
        measures: own ? ownMeasured : times ? timed : measured,
      },
      grid: {
        methods: [{ method: best.id, options: {} }],
        amounts: [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
        repairs: ['in-order'],
        ...(chosen ? { calibration: chosen } : {}),
        ...(isMixture ? {} : recovered(chosen)),
        weights,
        ...(model.siblings.length > 0 ? { siblings: model.siblings.slice(0, mostSiblings) } : {}),
        rivals: rivals.filter((type) => !weights.includes(type)),
        measures: own ? ownMeasures(model, ownText) : measuresOf(model, catalogue, times),
        precision: 'auto',
      },
    }
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
