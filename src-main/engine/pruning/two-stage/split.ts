import { EspalierError } from '#contract/errors.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { blockParameters, expertParameters, stackParameters } from '#engine/architectures/parameters.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { roundHalfEven } from '../budget.ts'
import { attentionRemovals, densePlan, equalCost, reachedSparsity } from '../plan.ts'

/** 2SSP's split of a sparsity between attention and MLPs (arXiv 2501.17771, Eq. 5). */
export interface TwoStageSplit {
  /** Attention submodules to remove. */
  readonly attention: number
  /** The share of its parameters that each MLP loses, 0 to 1. */
  readonly mlpShare: number
  /** Neurons that remain in each MLP, of `width`. */
  readonly neurons: number
  readonly width: number
}

interface StackShape {
  /** Parameters of the attention of each block that has one, and their mean. */
  readonly attentions: readonly number[]
  readonly attention: number
  readonly mlp: number
  /** How many MLPs lose neurons, and the parameters of one of them that belong to neurons; in a mixture, to its experts' neurons. */
  readonly mlps: number
  readonly cut: number
  readonly total: number
  readonly width: number
}

/** Blocks whose MLPs lose neurons: all, except that dense MLPs beside mixtures stay whole. */
export const narrowedBlocks = ({ blocks, router }: DecoderSpec): number[] =>
  [...blocks.keys()].filter((index) => !router || blocks[index]?.experts !== undefined)

/** The sizes that the split uses. MLPs are equal before pruning; token mixers of several kinds differ. */
function stackShape(spec: DecoderSpec): StackShape {
  const narrowed = narrowedBlocks(spec)
  const first = narrowed.find((index) => layoutOf(spec, index).width > 0) ?? -1
  const width = first < 0 ? 0 : layoutOf(spec, first).width
  if (first < 0 || narrowed.some((index) => layoutOf(spec, index).width !== width)) {
    throw new EspalierError(
      'infeasible',
      'This model has MLPs of different widths or none at all; 2SSP needs equal ones. Start from the dense model.',
    )
  }
  const attentions = attentionParameters(spec)
  const sum = attentions.reduce((total, own) => total + own, 0)
  // A model without attention can only lose neurons. Eq. 5 still needs the size of an attention, so it gets the first block's.
  const attention = attentions.length === 0 ? blockParameters(spec, first).attention : sum / attentions.length
  const { mlp } = blockParameters(spec, first)
  const cut = spec.router ? expertParameters(spec.block(first)) : mlp
  return { attentions, attention, mlp, mlps: narrowed.length, cut, total: stackParameters(spec), width }
}

function attentionParameters(spec: DecoderSpec): number[] {
  return spec.blocks.flatMap((layout, index) => (layout.attention ? [blockParameters(spec, index).attention] : []))
}

/** How the split treats token mixers of different sizes, for a run's notes. */
export function mixerNotes(spec: DecoderSpec): string[] {
  const own = attentionParameters(spec)
  const [least, most] = [Math.min(...own), Math.max(...own)]
  if (own.length === 0 || least === most) return []
  return [
    `Token mixers differ in size (${least} to ${most} parameters). Eq. 5 uses the size of each block, and neurons make up for the mean of the removed ones. The reached sparsity counts exactly what was removed.`,
  ]
}

/** Eq. 5 with each block's own |Attn|; N * s^((|MLP| / |Attn|) / alpha) if all are equal. */
function attentionToRemove(spec: DecoderSpec, { attentions, attention, mlp }: StackShape, sparsity: number, alpha: number): number {
  const own = spec.blocks.map((_, block) => (attentions.length === spec.blocks.length ? (attentions[block] as number) : attention))
  if (new Set(own).size === 1) return own.length * sparsity ** (mlp / attention / alpha)
  return own.reduce((total, parameters) => total + sparsity ** (mlp / parameters / alpha), 0)
}

/**
 * Splits a sparsity: P = round(N * s^((|MLP| / |Attn|) / alpha)) attention submodules, the rest from the MLPs in equal shares. `override`
 * replaces P. Throws with the feasible range if attention alone would exceed the target, or the MLPs cannot reach it.
 */
export function splitTwoStage(spec: DecoderSpec, sparsity: number, alpha: number, override?: number): TwoStageSplit {
  const shape = stackShape(spec)
  const { mlps, cut } = shape
  const attention = override ?? roundHalfEven(attentionToRemove(spec, shape, sparsity, alpha))
  const candidates = shape.attentions.length
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
      `Sparsity ${sparsity} cannot be reached by removing ${attention} attention submodules: with them ${lowest.toFixed(4)} to ${highest.toFixed(4)} is possible. Choose another sparsity or another number of attention submodules.`,
    )
  }
  const target = roundHalfEven(sparsity * shape.total)
  const perMlp = roundHalfEven((target - attention * shape.attention) / mlps)
  return splitOf(shape, attention, perMlp / cut)
}

function splitOf({ width }: StackShape, attention: number, mlpShare: number): TwoStageSplit {
  return { attention, mlpShare, neurons: roundHalfEven(width * (1 - mlpShare)), width }
}

/** The first stage alone: MLPs provide the whole sparsity. Throws if they are too small for it. */
export function splitFirstStage(spec: DecoderSpec, sparsity: number): TwoStageSplit {
  const shape = stackShape(spec)
  const share = sparsity * (shape.total / (shape.mlps * shape.cut))
  if (share > 1) {
    const most = (shape.mlps * shape.cut) / shape.total
    throw new EspalierError('infeasible', `Sparsity ${sparsity} is more than all MLPs together. Choose at most ${most.toFixed(4)}.`)
  }
  return splitOf(shape, 0, share)
}

/** The split with `attention` submodules; undefined if it cannot be reached. */
export function feasibleSplit(spec: DecoderSpec, sparsity: number, attention: number): TwoStageSplit | undefined {
  try {
    return splitTwoStage(spec, sparsity, 1, attention)
  } catch (error) {
    if (error instanceof EspalierError && error.code === 'infeasible') return undefined
    throw error
  }
}

/** The sparsities, in hundredths, at which a split leaves every MLP at least one neuron. */
export function splitRange(split: (sparsity: number) => TwoStageSplit): { least: number; most: number } {
  const feasible = (sparsity: number) => {
    try {
      return split(sparsity).neurons > 0
    } catch {
      return false
    }
  }
  // A split of a large mixture counts tens of thousands of tensors, so we only search for the two ends.
  const steps = Array.from({ length: 101 }, (_, i) => i / 100)
  return { least: steps.find(feasible) ?? 0, most: steps.findLast(feasible) ?? 0 }
}

/** The sparsity of plans that keep this many neurons in each MLP; null if it depends on which attention submodules are removed. */
export function reachedBy(spec: DecoderSpec, attention: number, neurons: number): number | null {
  const narrowed = narrowPlan(spec, neurons)
  const cost = attention === 0 ? 0 : equalCost(spec, attentionRemovals(spec))
  return cost === undefined ? null : reachedSparsity(spec, narrowed) + (attention * cost) / stackParameters(spec)
}

/** The plan that keeps the first `neurons` of each MLP, or of each expert that `whole` keeps. */
export function narrowPlan(spec: DecoderSpec, neurons: number, whole = densePlan(spec)): Plan {
  const narrowed = new Set(narrowedBlocks(spec))
  return { blocks: whole.blocks.map((block, index) => (narrowed.has(index) ? narrowBlock(spec, index, block, neurons) : block)) }
}

/** A block as `narrowPlan` leaves it. */
export function narrowBlock(spec: DecoderSpec, index: number, block: BlockPlan, neurons: number): BlockPlan {
  if (block.mlp === 'removed') return block
  const kept = Array.from({ length: neurons }, (_, neuron) => neuron)
  const { experts: all } = layoutOf(spec, index)
  if (all === undefined) return { ...block, mlp: { kept } }
  const count = block.mlp.experts?.length ?? all
  return { ...block, mlp: { ...block.mlp, keptByExpert: Array.from({ length: count }, () => kept) } }
}
