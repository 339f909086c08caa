import { usualRepetition } from '#contract/protocol.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import { recoveryTokens } from '#contract/pruning/recovery-kinds.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import { bundledTitles, type GgufType } from '#contract/titles.ts'
import type { Draft, PresetModel } from './preset-draft.ts'

/** Types of the dense model: a rival for every size that pruning reaches. */
const denseTypes: GgufType[] = ['F16', 'Q8_0', 'Q6_K', 'Q4_K_M', 'Q4_0', 'Q3_K_M', 'Q2_K', 'IQ3_XXS', 'IQ2_M']
/** Texts that no choice sees. Only such texts decide. */
const unseen = ['prose', 'code'] as const
/** Tokens of a window, windows of each text, and turns of each file: enough for a verdict in minutes on a small model. */
const [windowTokens, windows, turns] = [512, 8, 3]

const reasons = {
  Amounts: 'Three amounts show where quality begins to fall.',
  Methods: '2SSP cuts widths and attention. Files get smaller in every format, and faster in every program.',
  Repair: 'A pruned model is compared at its best.',
  Recovery: 'The shortest training. Train longer what comes close to winning.',
}
const unfit = 'Mixtures of experts can be neither repaired nor recovered.'
const measured = 'Only text that no choice saw decides. Loops show damage that perplexity hides.'
const timed = `${measured} Each file is timed in llama.cpp, in turns with the unpruned model in F16.`

interface Goal extends Omit<Draft, 'grid' | 'reasons'> {
  /** Why these types. */
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
    summary: 'Pruned files against the unpruned model in nine types of weights: size, speed, quality and loops.',
    why: 'F16 shows pruning alone, the others pruning with quantising.',
    weights: ['F16', 'Q8_0', 'Q4_K_M'],
    rivals: denseTypes,
    times: true,
  },
  {
    id: 'smaller-file',
    title: 'Smaller file',
    goal: 'A smaller file',
    summary: 'Whether a pruned file beats an unpruned one of its size.',
    why: 'Small types for both. Size alone needs no timing.',
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
    summary: 'Whether pruning writes more tokens per second than quantising does.',
    why: 'Each token reads all weights once, so small files write fast.',
    weights: ['Q8_0', 'Q4_0', 'Q4_K_M'],
    rivals: ['F16', 'Q3_K_M', 'Q2_K'],
    times: true,
  },
]

/** Presets that make dense and pruned files rivals, in the types that matter to a goal. */
export function worthDrafts(model: PresetModel, catalogue: Catalogue, isMixture: boolean): Draft[] {
  return goals.map(({ why, weights, rivals, times, ...preset }) => ({
    ...preset,
    reasons: { ...reasons, ...(isMixture ? { Repair: unfit, Recovery: unfit } : {}), Weights: why, Measures: times ? timed : measured },
    grid: {
      methods: [{ method: '2ssp', options: {} }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
      ...(isMixture ? {} : { repairs: ['in-order'], recoveries: [{ tokens: recoveryTokens[0] }] }),
      weights,
      rivals: rivals.filter((type) => !weights.includes(type)),
      measures: measuresOf(model, catalogue, times),
    },
  }))
}

function measuresOf({ contextLength }: PresetModel, { datasets }: Catalogue, times: boolean): MeasureRequest[] {
  const sequenceLength = Math.min(windowTokens, contextLength)
  const texts = unseen.filter((id) => datasets.some(({ source }) => source === id))
  const [first] = texts
  return [
    ...texts.map((source) => ({ kind: 'perplexity' as const, data: { source, sequenceLength, windows }, name: bundledTitles[source] })),
    ...(first ? [usualRepetition(first, bundledTitles[first], contextLength)] : []),
    ...(times ? [{ kind: 'inference' as const, sequenceLength, repeats: turns }] : []),
  ]
}
