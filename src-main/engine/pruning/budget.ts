import { EspalierError } from '#contract/errors.ts'
import type { Amount } from '#contract/run-request.ts'
import { blockParameters, type DecoderSpec, stackParameters } from '#engine/architectures/spec.ts'

/** How much a run may remove of one model, worked out once for the methods. */
export interface Budget {
  /** The share of the block stack's parameters to remove, 0 to 1. */
  readonly sparsity: number
  /** The same in whole blocks, rounded up: what depth methods remove. */
  readonly blocks: number
}

/** Rounds halves to the even neighbour, as Python's `round` does. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** The budget of an amount on a model; an amount in blocks stands for that share of the stack. */
export function budgetFor(spec: DecoderSpec, amount: Amount): Budget {
  const count = spec.blocks.length
  if (spec.sliceWidth !== undefined && ('blocks' in amount ? amount.blocks : amount.sparsity) > 0) {
    throw new EspalierError(
      'infeasible',
      `This model was sliced to ${spec.sliceWidth} of ${spec.hidden} channels and cannot be pruned further. Start from the dense model.`,
    )
  }
  if ('blocks' in amount) {
    if (amount.blocks > count)
      throw new EspalierError('infeasible', `${amount.blocks} blocks cannot go: the model has ${count}. Choose at most ${count}.`)
    return { sparsity: amount.blocks / count, blocks: amount.blocks }
  }
  return { sparsity: amount.sparsity, blocks: Math.ceil(amount.sparsity * count - 1e-9) }
}

/** What a method that removes whole blocks can reach: anything short of the last block. */
export function depthRange(spec: DecoderSpec): { least: number; most: number } {
  return { least: 0, most: (spec.blocks.length - 1) / spec.blocks.length }
}

/** Throws when fewer than `wanted` blocks are left. */
export function requireBlocks(wanted: number, left: number): void {
  if (wanted > left)
    throw new EspalierError('infeasible', `${wanted} blocks cannot go: the model has ${left} left. Choose at most ${left}.`)
}

/** 2SSP's division of a sparsity among attention and MLPs (arXiv 2501.17771, Eq. 5). */
export interface TwoStageSplit {
  /** Attention submodules that go. */
  readonly attention: number
  /** The share of its parameters that each MLP loses, 0 to 1. */
  readonly mlpShare: number
  /** Neurons that stay in each MLP, of `width`. */
  readonly neurons: number
  readonly width: number
}

interface StackShape {
  readonly attention: number
  readonly mlp: number
  readonly total: number
  readonly width: number
  readonly candidates: number
}

/** Sizes that the split counts with: the first block's, as every block's are equal before pruning. */
function stackShape(spec: DecoderSpec): StackShape {
  const first = spec.blocks.findIndex((layout) => layout.width > 0)
  const width = spec.blocks[first]?.width ?? 0
  if (first < 0 || spec.blocks.some((layout) => layout.width !== width)) {
    throw new EspalierError(
      'infeasible',
      'This model has MLPs of different widths or none at all; 2SSP needs equal ones. Start from the dense model.',
    )
  }
  const { attention, mlp } = blockParameters(spec, first)
  return { attention, mlp, total: stackParameters(spec), width, candidates: spec.blocks.filter((layout) => layout.attention).length }
}

/**
 * Splits a sparsity: P = round(N * s^((|MLP| / |Attn|) / alpha)) attention submodules, the rest from the MLPs in equal shares.
 * `override` replaces P. Throws with the feasible range when attention alone would exceed the target, or the MLPs cannot reach it.
 */
export function splitTwoStage(spec: DecoderSpec, sparsity: number, alpha: number, override?: number): TwoStageSplit {
  const shape = stackShape(spec)
  const count = spec.blocks.length
  const attention = override ?? roundHalfEven(count * sparsity ** (shape.mlp / shape.attention / alpha))
  if (attention > shape.candidates) {
    throw new EspalierError(
      'infeasible',
      `Sparsity ${sparsity} needs ${attention} attention submodules, the model has ${shape.candidates}. Choose at most ${shape.candidates}.`,
    )
  }
  const lowest = (attention * shape.attention) / shape.total
  const highest = (attention * shape.attention + count * shape.mlp) / shape.total
  if (lowest > sparsity || highest < sparsity) {
    throw new EspalierError(
      'infeasible',
      `Sparsity ${sparsity} cannot be reached by removing ${attention} attention submodules: with them ${lowest.toFixed(4)} to ${highest.toFixed(4)} is possible. Choose another sparsity or another number of attention submodules.`,
    )
  }
  const target = roundHalfEven(sparsity * shape.total)
  const perMlp = roundHalfEven((target - attention * shape.attention) / count)
  return splitOf(shape, attention, perMlp / shape.mlp)
}

function splitOf({ width }: StackShape, attention: number, mlpShare: number): TwoStageSplit {
  return { attention, mlpShare, neurons: roundHalfEven(width * (1 - mlpShare)), width }
}

/** The first stage alone: MLPs carry the whole sparsity. Throws when they are too small for it. */
export function splitFirstStage(spec: DecoderSpec, sparsity: number): TwoStageSplit {
  const shape = stackShape(spec)
  const share = sparsity * (shape.total / (spec.blocks.length * shape.mlp))
  if (share > 1) {
    const most = (spec.blocks.length * shape.mlp) / shape.total
    throw new EspalierError('infeasible', `Sparsity ${sparsity} is more than all MLPs together. Choose at most ${most.toFixed(4)}.`)
  }
  return splitOf(shape, 0, share)
}

/** The split with `attention` submodules where it can be reached, undefined where it cannot. */
export function feasibleSplit(spec: DecoderSpec, sparsity: number, attention: number): TwoStageSplit | undefined {
  try {
    return splitTwoStage(spec, sparsity, 1, attention)
  } catch (error) {
    if (error instanceof EspalierError && error.code === 'infeasible') return undefined
    throw error
  }
}

/** The sparsities, in hundredths, at which a split leaves every MLP a neuron. */
export function splitRange(split: (sparsity: number) => TwoStageSplit): { least: number; most: number } {
  const feasible = (sparsity: number) => {
    try {
      return split(sparsity).neurons > 0
    } catch {
      return false
    }
  }
  const steps = Array.from({ length: 101 }, (_, i) => i / 100).filter(feasible)
  return { least: steps[0] ?? 0, most: steps.at(-1) ?? 0 }
}
