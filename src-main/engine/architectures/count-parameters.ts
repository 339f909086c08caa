import {
  type BlockTensors,
  type DecoderSpec,
  isConstant,
  layoutOf,
  mixerOwn,
  mixerProjections,
  mlpEntries,
  mlpProjections,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from './spec.ts'

/**
 * Parameters of a block's submodules: projections, biases, norms on queries and keys, and norms on outputs. Norms before submodules are
 * counted separately, because Eq. 5 of 2SSP excludes them.
 */
interface BlockParameters {
  readonly attention: number
  readonly attentionNorm: number
  readonly mlp: number
  readonly mlpNorm: number
}

function projectionParameters(projection: Projection | undefined): number {
  if (!projection) return 0
  return projection.rows * projection.columns + (projection.bias ? projection.rows : 0)
}

/** How many values the keys and values of one token have, in a model with `attentions` attention submodules. */
export const keysAndValues = ({ keyValueHeads, headSize, blocks }: DecoderSpec, attentions = blocks.length): number =>
  2 * keyValueHeads * headSize * attentions

/** Parameters of a token mixer besides its projections. */
function mixerExtras(spec: DecoderSpec, tensors: BlockTensors): number {
  const heads = normParameters(spec, tensors.queryNorm) + normParameters(spec, tensors.keyNorm)
  return [...mixerOwn(tensors), ...(tensors.sinks ? [tensors.sinks] : [])].reduce(
    (total, { shape }) => total + shape.reduce((a, b) => a * b, 1),
    heads,
  )
}

/** Parameters of a norm; 0 for a missing one. */
export function normParameters(spec: DecoderSpec, norm: NormTensors | undefined): number {
  return norm && !norm.ones ? (norm.size ?? spec.hidden) * (norm.bias ? 2 : 1) : 0
}

const entriesOf = (entries: readonly (Projection | ShapedTensor)[]): number =>
  entries.reduce((sum, one) => sum + ('rows' in one ? projectionParameters(one) : one.shape.reduce((a, b) => a * b, 1)), 0)

/** Parameters of a mixture's experts that a token does not use. Constants count as experts, because the router may choose them. */
function idleParameters({ mixture }: BlockTensors, chosen: number): number {
  if (!mixture) return 0
  const all = mixture.experts.map((expert) => entriesOf(isConstant(expert) ? [expert.constant] : Object.values(mlpProjections(expert))))
  return all
    .sort((a, b) => a - b)
    .slice(0, Math.max(0, all.length - chosen))
    .reduce((sum, own) => sum + own, 0)
}

/** Parameters that belong to the neurons of a mixture's experts. Experts that are constants have none. */
export function expertParameters({ mixture }: BlockTensors): number {
  const all = mixture?.experts.map((expert) => (isConstant(expert) ? 0 : entriesOf(Object.values(mlpProjections(expert)))))
  return all?.reduce((sum, own) => sum + own, 0) ?? 0
}

/** Parameters of block `index` as the spec describes it, including removed parts. */
export function blockParameters(spec: DecoderSpec, index: number): BlockParameters {
  const tensors = spec.block(index)
  const sum = (projections: (Projection | undefined)[]) => projections.reduce((total, part) => total + projectionParameters(part), 0)
  const { output, attentionNorm, attentionOutputNorm, mlpNorm, mlpOutputNorm } = tensors
  return {
    attention:
      sum([...mixerProjections(tensors), output, tensors.attentionShortcut]) +
      mixerExtras(spec, tensors) +
      normParameters(spec, attentionOutputNorm),
    attentionNorm: normParameters(spec, attentionNorm),
    mlp: entriesOf(Object.values(mlpEntries(tensors))) + sum([tensors.mlpShortcut]) + normParameters(spec, mlpOutputNorm),
    mlpNorm: normParameters(spec, mlpNorm),
  }
}

/**
 * Parameters that block `index` still has. A norm is removed with the last submodule that uses it; with a parallel residual, both use the
 * same norm.
 */
export function presentParameters(spec: DecoderSpec, index: number): Record<'attention' | 'mlp' | 'all', number> {
  const { attention, width } = layoutOf(spec, index)
  const parts = blockParameters(spec, index)
  const shared = spec.parallelResidual && !attention ? parts.attentionNorm : 0
  const own = attention ? parts.attention + parts.attentionNorm : 0
  const mlp = width > 0 ? parts.mlp + parts.mlpNorm + shared : 0
  return { attention: own, mlp, all: own + mlp }
}

/**
 * Parameters of the whole block stack, which every sparsity is relative to. The same function counts a dense model, a model under a plan
 * and a folder in the exact format. Formats that write zeros for removed parts are larger and say so.
 */
export function stackParameters(spec: DecoderSpec): number {
  return spec.blocks.reduce((total, _, index) => total + presentParameters(spec, index).all, 0)
}

/** Parameters of the block stack, and how many of them one token uses: fewer in mixtures of experts. */
export function activeParameters(spec: DecoderSpec): { readonly total: number; readonly active: number } {
  const total = stackParameters(spec)
  const idle = spec.blocks.map(({ width }, index) => (width > 0 ? unmetParameters(spec, index) : 0))
  return { total, active: total - idle.reduce((sum, own) => sum + own, 0) }
}

/** Parameters of block `index` that a token does not use: those of experts that its router does not pick. */
export const unmetParameters = (spec: DecoderSpec, index: number): number =>
  spec.router ? idleParameters(spec.block(index), spec.router.chosen) : 0
