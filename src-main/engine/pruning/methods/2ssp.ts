import { z } from 'zod'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { Decision } from '#contract/runs/run.ts'
import { blockParameters, expertParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, hasExperts, layoutOf } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'
import { ascending, roundHalfEven } from '#engine/pruning/selection.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { scoringPhase as expertScoringPhase } from '../experts/expert-statistics.ts'
import { planExperts, withoutExperts } from '../experts/experts-first.ts'
import { count, defineMethod, type MethodInput, type MethodResult } from '../method.ts'
import { attentionRemovals, densePlan, equalCost, reachedSparsity, removeParts, variantOf } from '../plan.ts'
import { keepLargest, type MlpScores, mlpScores, scoringPhase } from '../scores/mlp-scores.ts'
import { greedyNotes, joinedRows, lazyOption, removeGreedily, type Turn } from '../search/greedy.ts'
import { countSearch, type SearchMeans, VariantRanking } from '../search/variant-ranking.ts'

/**
 * 2SSP (arXiv 2501.17771): removes the MLP neurons with the smallest activations, the same number in every block. Then removes attention
 * submodules one at a time, always the one whose removal raises perplexity least. If a budget of cost leaves room, the removed neurons with
 * the largest activations are put back, block by block.
 *
 * Repairs of the reference: scores are summed in float64, and ties go to the lower index. Candidates are compared by their float64 loss,
 * not by a half-precision perplexity. A round without a finite candidate and a split that cannot be reached are errors. Channels provide
 * only the sparsity that attention leaves. The split is that of the reference, but removed attention counts with the norm in front of it,
 * which no saved model has. The reached sparsity is therefore higher by one norm for each removed attention submodule.
 */
const options = z.object({
  alpha: z
    .number()
    .positive()
    .default(1.5)
    .meta({ title: 'Alpha', help: 'Balance between the two stages in Eq. 5. A larger alpha removes more attention.' }),
  norm: z
    .union([z.literal(1), z.literal(2)])
    .default(2)
    .meta({ title: 'Norm', help: 'Norm of a neuron over the tokens of a window.' }),
  windows: count(32, { title: 'Stage 1 windows', unit: 'windows', help: 'Calibration windows used to score neurons.' }),
  stage2Windows: count(1, {
    title: 'Stage 2 windows',
    unit: 'windows',
    help: 'Calibration windows used to score attention. With only one, the choice may overfit that window.',
  }),
  attention: z
    .number()
    .int()
    .nonnegative()
    .optional()
    .meta({ title: 'Attention submodules', help: 'Number of attention submodules to remove, instead of the number from Eq. 5.' }),
  widthMultiple: count(1, {
    title: 'Width multiple',
    unit: 'neurons',
    help: 'Rounds the number of neurons kept to a multiple of this, to suit the hardware. The reached sparsity is shown.',
  }),
  stages: z
    .enum(['both', 'first'])
    .default('both')
    .meta({ title: 'Stages', help: 'Runs both stages, or only the first. All of the sparsity then comes from MLPs.' }),
  cut: z
    .enum(['neurons', 'channels'])
    .default('neurons')
    .meta({ title: 'Cut', help: 'What MLPs lose: neurons, or the hidden channels that they read and write.' }),
  channelShare: z.enum(['rest', 'whole']).default('rest').meta({
    title: 'Channel share',
    help: 'Whether cut channels make up the sparsity that remains after attention (rest), or all of it (whole). As in the reference, whole removes more than requested.',
  }),
  experts: z.number().positive().max(1).optional().meta({
    title: 'Experts first',
    empty: 'none',
    help: 'For mixtures: removes this share of the experts first, as REAP does. Neurons and attention then make up the rest of the sparsity.',
  }),
  ...lazyOption,
})

export type TwoStageOptions = z.infer<typeof options>
type Input = MethodInput<TwoStageOptions>

export const twoStage = defineMethod({
  id: '2ssp',
  order: 1,
  title: '2SSP',
  paper: '2501.17771',
  summary: 'Removes weak MLP neurons in every block, then the attention submodules that matter least.',
  unit: 'neurons and attention',
  options,
  refitProblem: ({ cut }) => (cut === 'channels' ? 'it cuts channels instead of neurons' : undefined),
  windows: ({ windows, stage2Windows }) => Math.max(windows, stage2Windows),
  range: (spec, chosen) => splitRange((sparsity) => splitFor(spec, sparsity, chosen)),
  outline(spec, { sparsity }, chosen) {
    if (sparsity === 0) return { attentionRemoved: 0, blocksRemoved: null, neuronsRemovedPerBlock: 0, reached: 0 }
    const split = splitFor(spec, sparsity, chosen)
    const { left, removed } = split.first ?? { left: spec, removed: 0 }
    const kept = neuronsKept(split, chosen)
    const own = chosen.cut === 'neurons' ? reachedBy(left, split.attention, kept) : null
    return {
      attentionRemoved: split.attention,
      blocksRemoved: null,
      neuronsRemovedPerBlock: split.width - kept,
      ...(removed > 0 ? { expertsRemoved: removed } : {}),
      reached: own === null ? null : 1 - ((1 - own) * stackParameters(left)) / stackParameters(spec),
    }
  },
  async work(spec, { sparsity }, chosen, windows) {
    if (sparsity === 0) return []
    const { attention, neurons, width } = splitFor(spec, sparsity, chosen)
    const removal = await countSearch(secondStage, spec, Math.min(chosen.stage2Windows, windows), (means) =>
      removeAttention(means, spec, attention, chosen),
    )
    const passes = { ...removal.passes, mlp: (removal.passes.mlp * neurons) / Math.max(1, width) }
    const scored = Math.min(windows, chosen.windows)
    const experts = chosen.experts === undefined ? [] : [expertScoringPhase(spec, scored)]
    return [...experts, scoringPhase(spec, scored, chosen.experts), { ...removal, passes, rowsPerCall: joinedRows }]
  },
  plan: (input) => planTwoStages(input, (scored) => mlpScores(scored, scored.options)),
})

const secondStage = 'Stage 2: removing attention'

/** Runs both stages, on any scores of the MLPs. In a mixture, experts may be removed first. */
export async function planTwoStages(input: Input, scoreMlps: (input: Input) => Promise<MlpScores>): Promise<MethodResult> {
  const { view, budget, options: chosen } = input
  if (budget.sparsity === 0) return { plan: densePlan(view.spec), decisions: [], notes: [] }
  const split = splitFor(view.spec, budget.sparsity, chosen)
  if (chosen.experts === undefined) return planStages(input, split, densePlan(view.spec), await scoreMlps(input))
  const { plan, experts } = await planExperts(input, chosen.experts)
  const left = viewWithPlan(view.model, plan)
  try {
    // The tokens of a removed expert go to another one, so neurons are scored on the remaining experts.
    return { ...(await planStages(input, split, plan, await scoreMlps({ ...input, view: left }))), experts }
  } finally {
    left.dispose()
  }
}

async function planStages(input: Input, split: TwoStageSplit, before: Plan, scores: MlpScores): Promise<MethodResult> {
  const { view, options: chosen } = input
  const width = narrow(input, split, before, scores)
  const decisions = split.attention > 0 ? await removeAttentionOf(input, width.plan, split.attention) : []
  const equal = removeParts(
    width.plan,
    decisions.map(({ block }) => attentionOf(block)),
  )
  const wider = await widened(input, equal, scores)
  return {
    plan: equal,
    ...wider,
    decisions,
    notes: [...width.notes, ...mixerNotes(view.spec), ...greedyNotes(decisions, chosen)],
  }
}

/**
 * Returns the plan with the neurons that a budget of cost leaves room for, and its cost. Returns nothing if there is no such budget or no
 * room.
 */
async function widened({ budget: { cost }, run, view }: Input, plan: Plan, { neurons }: MlpScores) {
  if (!cost || !neurons || (await cost.of(plan)) > cost.most) return {}
  const wider = await widenWithin(plan, neurons, cost)
  const kept = wider.blocks.map(({ mlp }) => (mlp === 'removed' ? 0 : mlp.kept.length))
  run.emit({ type: 'width', kept, of: layoutOf(view.spec, 0).width })
  return { plan: wider, predicted: await cost.of(wider) }
}

function splitFor(
  spec: DecoderSpec,
  sparsity: number,
  { experts, ...chosen }: TwoStageOptions,
): TwoStageSplit & { first?: ReturnType<typeof withoutExperts> } {
  if (experts !== undefined) {
    const first = withoutExperts(spec, sparsity, experts)
    return { ...splitFor(first.left, first.sparsity, chosen), first }
  }
  const { stages, alpha, attention, cut, channelShare } = chosen
  if (spec.router && cut === 'channels') throw hasExperts()
  if (stages === 'first') return splitFirstStage(spec, sparsity)
  const split = splitTwoStage(spec, sparsity, alpha, attention)
  return cut === 'channels' && channelShare === 'whole' ? { ...split, mlpShare: splitFirstStage(spec, sparsity).mlpShare } : split
}

/** Returns how many neurons each MLP keeps: the number of the split, rounded to the nearest multiple. */
function neuronsKept({ neurons, width }: TwoStageSplit, { widthMultiple }: TwoStageOptions): number {
  return Math.min(width, Math.max(widthMultiple, Math.round(neurons / widthMultiple) * widthMultiple))
}

/** Stage 1: each MLP keeps the neurons, or the channels in and out, with the largest mean norm. The number is the same in every block. */
function narrow(
  { view, options: chosen, run }: Input,
  split: TwoStageSplit,
  plan: Plan,
  scores: MlpScores,
): { plan: Plan; notes: readonly string[] } {
  if (scores.inputs) {
    const count = Math.max(1, roundHalfEven(view.spec.hidden * (1 - split.mlpShare)))
    const [inputs, outputs] = [keepLargest(scores.inputs, count, 'input'), keepLargest(scores.outputs, count, 'output')]
    const blocks = plan.blocks.map(
      (block, i): BlockPlan => ({ ...block, mlp: { kept: 'all', inputs: inputs.kept[i] ?? [], outputs: outputs.kept[i] ?? [] } }),
    )
    return { plan: { blocks }, notes: [...inputs.notes, ...outputs.notes] }
  }
  if (scores.experts) return narrowExperts(view.spec, plan, scores.experts, { count: neuronsKept(split, chosen), of: split.width }, run)
  const { kept, cuts, notes } = keepLargest(scores.neurons, neuronsKept(split, chosen), 'neuron')
  run.emit({ type: 'neuron scores', scores: scores.neurons, cuts })
  run.emit({ type: 'width', kept: kept.map((block) => block.length), of: split.width })
  return { plan: { blocks: plan.blocks.map((block, i): BlockPlan => ({ ...block, mlp: { kept: kept[i] ?? [] } })) }, notes }
}

/** Stage 1 inside experts. All experts keep the same number of neurons, so that one width describes them. */
function narrowExperts(
  spec: DecoderSpec,
  plan: Plan,
  scores: readonly number[][][],
  { count, of }: { readonly count: number; readonly of: number },
  run: Pick<Input['run'], 'emit'>,
): { plan: Plan; notes: readonly string[] } {
  const selections = scores.map((experts) => keepLargest(experts, count, 'neuron'))
  const blocks = plan.blocks.map((block, index): BlockPlan => {
    const keptByExpert = selections[index]?.kept ?? []
    return block.mlp === 'removed' || keptByExpert.length === 0 || count === of ? block : { ...block, mlp: { ...block.mlp, keptByExpert } }
  })
  run.emit({ type: 'width', kept: blocks.map((_, index) => (layoutOf(spec, index).experts === undefined ? of : count)), of })
  const ties = selections.filter(({ notes }) => notes.length > 0).length
  return {
    plan: { blocks },
    notes: ties > 0 ? [`In ${ties} blocks, the last neuron kept in an expert and the first one removed tie in float32.`] : [],
  }
}

const roundStep: StepKind = { version: 2 }

/** Stage 2: removes attention submodules one at a time, always the one whose removal leaves the lowest perplexity. */
async function removeAttention(
  means: SearchMeans,
  spec: DecoderSpec,
  count: number,
  { lazy }: TwoStageOptions,
  on: { plan?: Plan } = {},
): Promise<Decision[]> {
  const rounds = { phase: secondStage, step: roundStep, labelOf: (round: number) => `stage 2, round ${round}`, on, lazy }
  const { decisions } = await removeGreedily(means, variantOf(densePlan(spec)), Array<Turn>(count).fill(['attention']), rounds)
  return decisions
}

async function removeAttentionOf({ view, calibration, options: chosen, run }: Input, plan: Plan, count: number): Promise<Decision[]> {
  const pruned = viewWithPlan(view.model, plan)
  const rank = (windows: Windows) => new VariantRanking(pruned, windows, { signal: run.signal })
  try {
    return await removeAttention({ run, rank, windows: calibration.slice(0, chosen.stage2Windows) }, view.spec, count, chosen, { plan })
  } finally {
    pruned.dispose()
  }
}

/** 2SSP's split of a sparsity between attention and MLPs (arXiv 2501.17771, Eq. 5). */
export interface TwoStageSplit {
  /** Attention submodules to remove. */
  readonly attention: number
  /** The share of its parameters that each MLP loses, 0 to 1. */
  readonly mlpShare: number
  /** Neurons that remain in each MLP. */
  readonly neurons: number
  /** Neurons of each MLP before pruning. */
  readonly width: number
}

interface StackShape {
  /** Parameters of each attention submodule. */
  readonly attentionSizes: readonly number[]
  /** Their mean. */
  readonly attention: number
  /** Parameters of one MLP. */
  readonly mlp: number
  /** How many MLPs lose neurons. */
  readonly mlps: number
  /** Parameters of one of them that belong to neurons; in a mixture, to the neurons of its experts. */
  readonly cut: number
  /** Parameters of the block stack. */
  readonly total: number
  readonly width: number
}

/** Returns the blocks whose MLPs lose neurons: all, except dense MLPs in a model with mixtures. */
export const narrowedBlocks = ({ blocks, router }: DecoderSpec): number[] =>
  [...blocks.keys()].filter((index) => !router || blocks[index]?.experts !== undefined)

/** Returns the sizes that the split uses. MLPs must be equal; token mixers of several kinds may differ in size. */
function stackShape(spec: DecoderSpec): StackShape {
  const narrowed = narrowedBlocks(spec)
  const first = narrowed.find((index) => layoutOf(spec, index).width > 0) ?? -1
  const width = first < 0 ? 0 : layoutOf(spec, first).width
  if (first < 0 || narrowed.some((index) => layoutOf(spec, index).width !== width)) {
    throw new EspalierError(
      'infeasible',
      '2SSP needs MLPs of equal width, but those of this model differ, or it has none. Start from the dense model.',
    )
  }
  const attentionSizes = attentionParameters(spec)
  const sum = attentionSizes.reduce((total, own) => total + own, 0)
  // A model without attention can only lose neurons. Eq. 5 still needs the size of an attention submodule, so we use that of the first
  // block.
  const attention = attentionSizes.length === 0 ? blockParameters(spec, first).attention : sum / attentionSizes.length
  const { mlp } = blockParameters(spec, first)
  const cut = spec.router ? expertParameters(spec.block(first)) : mlp
  return { attentionSizes, attention, mlp, mlps: narrowed.length, cut, total: stackParameters(spec), width }
}

function attentionParameters(spec: DecoderSpec): number[] {
  return spec.blocks.flatMap((layout, index) => (layout.attention ? [blockParameters(spec, index).attention] : []))
}

/** Returns a note on how the split treats token mixers of different sizes, if they differ. */
export function mixerNotes(spec: DecoderSpec): string[] {
  const own = attentionParameters(spec)
  const [least, most] = [Math.min(...own), Math.max(...own)]
  if (own.length === 0 || least === most) return []
  return [
    `Token mixers differ in size (${least.toLocaleString('en')} to ${most.toLocaleString('en')} parameters). Eq. 5 uses the size in each block, and the number of removed neurons is based on the mean size. The reached sparsity counts exactly what was removed.`,
  ]
}

/** Returns Eq. 5 with each block's own |Attn|. If all are equal, that is N * s^((|MLP| / |Attn|) / alpha). */
function attentionToRemove(spec: DecoderSpec, { attentionSizes, attention, mlp }: StackShape, sparsity: number, alpha: number): number {
  const sizes = spec.blocks.map((_, block) =>
    attentionSizes.length === spec.blocks.length ? (attentionSizes[block] as number) : attention,
  )
  if (new Set(sizes).size === 1) return sizes.length * sparsity ** (mlp / attention / alpha)
  return sizes.reduce((total, parameters) => total + sparsity ** (mlp / parameters / alpha), 0)
}

/**
 * Splits a sparsity: P = round(N * s^((|MLP| / |Attn|) / alpha)) attention submodules are removed, and the MLPs lose the rest in equal
 * shares. `override` replaces P. Throws `infeasible` with the possible range if attention alone would exceed the target, or if the MLPs
 * cannot reach it.
 */
export function splitTwoStage(spec: DecoderSpec, sparsity: number, alpha: number, override?: number): TwoStageSplit {
  const shape = stackShape(spec)
  const { mlps, cut } = shape
  const attention = override ?? roundHalfEven(attentionToRemove(spec, shape, sparsity, alpha))
  const candidates = shape.attentionSizes.length
  if (attention > candidates) {
    throw new EspalierError(
      'infeasible',
      `Sparsity ${sparsity} removes ${attention} attention submodules, but the model has ${candidates}. Choose a smaller sparsity or alpha, or at most ${candidates} attention submodules.`,
    )
  }
  const lowest = (attention * shape.attention) / shape.total
  const highest = (attention * shape.attention + mlps * cut) / shape.total
  if (lowest > sparsity || highest < sparsity) {
    throw new EspalierError(
      'infeasible',
      `Sparsity ${sparsity} cannot be reached by removing ${attention} attention submodules, which allows ${lowest.toFixed(4)} to ${highest.toFixed(4)}. Choose another sparsity or another number of attention submodules.`,
    )
  }
  const target = roundHalfEven(sparsity * shape.total)
  const perMlp = roundHalfEven((target - attention * shape.attention) / mlps)
  return splitOf(shape, attention, perMlp / cut)
}

function splitOf({ width }: StackShape, attention: number, mlpShare: number): TwoStageSplit {
  return { attention, mlpShare, neurons: roundHalfEven(width * (1 - mlpShare)), width }
}

/** Splits a sparsity for the first stage alone, in which MLPs provide all of it. Throws if they are too small. */
export function splitFirstStage(spec: DecoderSpec, sparsity: number): TwoStageSplit {
  const shape = stackShape(spec)
  const share = sparsity * (shape.total / (shape.mlps * shape.cut))
  if (share > 1) {
    const most = (shape.mlps * shape.cut) / shape.total
    throw new EspalierError('infeasible', `Sparsity ${sparsity} is more than all MLPs together have. Choose at most ${most.toFixed(4)}.`)
  }
  return splitOf(shape, 0, share)
}

/** Returns the split with `attention` removed submodules, or undefined if it cannot be reached. */
export function feasibleSplit(spec: DecoderSpec, sparsity: number, attention: number): TwoStageSplit | undefined {
  try {
    return splitTwoStage(spec, sparsity, 1, attention)
  } catch (error) {
    if (error instanceof EspalierError && error.code === 'infeasible') return undefined
    throw error
  }
}

/** Returns the range of sparsities, in hundredths, at which a split leaves every MLP at least one neuron. */
export function splitRange(split: (sparsity: number) => TwoStageSplit): { least: number; most: number } {
  const feasible = (sparsity: number) => {
    try {
      return split(sparsity).neurons > 0
    } catch {
      return false
    }
  }
  // A split of a large mixture counts tens of thousands of tensors, so we search only for the two ends.
  const steps = Array.from({ length: 101 }, (_, i) => i / 100)
  return { least: steps.find(feasible) ?? 0, most: steps.findLast(feasible) ?? 0 }
}

/**
 * Returns the sparsity of plans that keep this many neurons in each MLP, or null if it depends on which attention submodules are removed.
 */
export function reachedBy(spec: DecoderSpec, attention: number, neurons: number): number | null {
  const narrowed = narrowPlan(spec, neurons)
  const cost = attention === 0 ? 0 : equalCost(spec, attentionRemovals(spec))
  return cost === undefined ? null : reachedSparsity(spec, narrowed) + (attention * cost) / stackParameters(spec)
}

/** Returns the plan that keeps the first `neurons` of each MLP, or of each expert that `before` keeps. */
export function narrowPlan(spec: DecoderSpec, neurons: number, before = densePlan(spec)): Plan {
  const narrowed = new Set(narrowedBlocks(spec))
  return { blocks: before.blocks.map((block, index) => (narrowed.has(index) ? narrowBlock(spec, index, block, neurons) : block)) }
}

/** Returns a block as `narrowPlan` leaves it. */
export function narrowBlock(spec: DecoderSpec, index: number, block: BlockPlan, neurons: number): BlockPlan {
  if (block.mlp === 'removed') return block
  const kept = Array.from({ length: neurons }, (_, neuron) => neuron)
  const { experts: all } = layoutOf(spec, index)
  if (all === undefined) return { ...block, mlp: { kept } }
  const count = block.mlp.experts?.length ?? all
  return { ...block, mlp: { ...block.mlp, keptByExpert: Array.from({ length: count }, () => kept) } }
}

/** How many neurons are added at once. Quantised formats hold this many without padding. */
const unit = 32

/**
 * Adds neurons to a plan with equal widths while a budget of cost leaves room. Widths grow in whole units, starting with the block whose
 * next neurons have the largest share of its scores. The remaining room is filled in the first block in that order, in steps of half a unit
 * down to one neuron.
 * @param scores of the neurons of each block, [L][I]
 */
export async function widenWithin(plan: Plan, scores: readonly number[][], { most, of: costOf }: CostLimit): Promise<Plan> {
  const ranked = scores.map((block): Ranked => ({ scores: block, order: ascending(block.map((score) => -score)) }))
  const fits = async (widths: readonly number[]) => (await costOf(withWidths(plan, ranked, widths))) <= most
  let widths = plan.blocks.map(({ mlp }) => (mlp === 'removed' ? 0 : mlp.kept.length))
  for (let before: number[] = []; before !== widths; ) {
    before = widths
    for (const block of byGain(ranked, widths)) {
      const wider = widths.with(block, nextWidth(at(widths, block), at(scores, block).length))
      if (await fits(wider)) widths = wider
    }
  }
  for (const block of byGain(ranked, widths).slice(0, 1)) {
    for (let step = unit / 2; step >= 1; step /= 2) {
      const wider = widths.with(block, Math.min(at(scores, block).length, at(widths, block) + step))
      if (await fits(wider)) widths = wider
    }
  }
  return withWidths(plan, ranked, widths)
}

interface Ranked {
  /** The scores of a block's neurons. */
  readonly scores: readonly number[]
  /** The neurons, largest score first. */
  readonly order: readonly number[]
}

function withWidths(plan: Plan, ranked: readonly Ranked[], widths: readonly number[]): Plan {
  const kept = (block: number) =>
    at(ranked, block)
      .order.slice(0, at(widths, block))
      .sort((a, b) => a - b)
  return { ...plan, blocks: plan.blocks.map((block, i) => ({ ...block, mlp: { kept: kept(i) } })) }
}

const nextWidth = (width: number, all: number): number => Math.min(all, (Math.floor(width / unit) + 1) * unit)

/** Returns the blocks that can be wider, the one that gains most first. */
function byGain(ranked: readonly Ranked[], widths: readonly number[]): number[] {
  const gains = ranked.map(({ scores, order }, index) => {
    const sum = (neurons: readonly number[]) => neurons.reduce((total, neuron) => total + at(scores, neuron), 0)
    const width = at(widths, index)
    return sum(order.slice(width, nextWidth(width, order.length))) / sum(order)
  })
  const open = [...ranked.keys()].filter((index) => at(widths, index) < at(ranked, index).order.length)
  return open.sort((a, b) => at(gains, b) - at(gains, a) || a - b)
}
