import { type DecoderSpec, denseMlp, type NormTensors } from '#engine/architectures/spec.ts'
import type { BlockNames } from './module.ts'

/** Names of a block's modules in transformers, taken from the names of its tensors. */
export function blockNames(spec: DecoderSpec): BlockNames {
  const { attentionNorm, attentionOutputNorm, mlpNorm, mlpOutputNorm } = spec.block(0)
  // With a parallel residual, both submodules use one norm, so it stays if one of them is removed.
  const shared = spec.parallelResidual
  return {
    attentions: [...new Set(spec.blocks.map((_, index) => moduleAt(spec.block(index).output.weight, -3)))],
    attentionNorms: shared ? [] : namesOf(attentionNorm, attentionOutputNorm),
    mlp: moduleAt(denseMlp(spec.block(0)).down.weight, -3),
    mlpNorms: shared ? [] : namesOf(mlpNorm, mlpOutputNorm),
    sharedNorms: shared ? namesOf(attentionNorm) : [],
  }
}

/** The projections that write the stream at the end of a block, as `module.name`. */
export function lastProjections(spec: DecoderSpec): string[] {
  const { output } = spec.block(0)
  const { down } = denseMlp(spec.block(0))
  return (spec.parallelResidual ? [output, down] : [down]).map(({ weight }) => weight.split('.').slice(-3, -1).join('.'))
}

const moduleAt = (tensor: string, place: number): string => tensor.split('.').at(place) ?? tensor
const namesOf = (...norms: (NormTensors | undefined)[]): string[] => norms.flatMap((norm) => (norm ? [moduleAt(norm.weight, -2)] : []))
