import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { blockParameters, expertParameters, stackParameters } from '#engine/architectures/parameters.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'
import { attentionRemovals, densePlan, equalCost, reachedSparsity } from '#engine/pruning/plan.ts'
import { ascending, roundHalfEven } from '#engine/pruning/selection.ts'

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
      `Sparsity ${sparsity} removes ${attention} attention submodules, but the model has ${candidates}. Choose a smaller sparsity or alpha, or set the option attention to ${candidates} or less.`,
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
