import { z } from 'zod'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { Decision } from '#contract/runs/run.ts'
import { stackParameters } from '#engine/architectures/parameters.ts'
import { type DecoderSpec, hasExperts, layoutOf } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import { roundHalfEven } from '#engine/pruning/selection.ts'
import { widenWithin } from '#engine/pruning/two-stage/split.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { scoringPhase as expertScoringPhase } from '../experts/dense-pass.ts'
import { planExperts, withoutExperts } from '../experts/experts-first.ts'
import { defineMethod, type MethodInput, type MethodResult } from '../method.ts'
import { count } from '../options.ts'
import { densePlan, removeParts, variantOf } from '../plan.ts'
import { countSearch, type SearchMeans } from '../search/counted.ts'
import { greedyNotes, joinedRows, lazyOption, removeGreedily, retiredOptions, type Turn } from '../search/greedy.ts'
import { VariantRanking } from '../search/variant-ranking.ts'
import { keepLargest, type MlpScores, mlpScores, scoringPhase } from '../two-stage/mlp-scores.ts'
import { mixerNotes, reachedBy, splitFirstStage, splitRange, splitTwoStage, type TwoStageSplit } from '../two-stage/split.ts'

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
  retired: retiredOptions,
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

const roundStep: StepKind = { version: 1 }

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
