import { blockParameters, unmetParameters } from '#engine/architectures/parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { outlineOf } from '#engine/pruning/outline.ts'

/** Operations of one window through the mean attention, the mean MLP and the head; in a mixture, through the experts of one token. */
export function operationsOf(spec: DecoderSpec, tokens: number): { attention: number; mlp: number; head: number } {
  const blocks = spec.blocks.map((_, index) => {
    const { attention, mlp } = blockParameters(spec, index)
    return { attention, mlp: mlp - unmetParameters(spec, index) }
  })
  const mean = (part: 'attention' | 'mlp') => blocks.reduce((sum, own) => sum + own[part], 0) / blocks.length
  return {
    attention: 2 * tokens * mean('attention') + 2 * tokens ** 2 * spec.heads * spec.headSize,
    mlp: 2 * tokens * mean('mlp'),
    head: 2 * tokens * spec.vocabulary * spec.hidden,
  }
}

/** The share of the stack's work that a plan leaves. A token passes equally many experts, however many remain. */
export function leftBy(
  spec: DecoderSpec,
  { expertsRemoved, attentionRemoved, neuronsRemovedPerBlock, reached }: ReturnType<typeof outlineOf>,
  sparsity: number,
): number {
  if (!expertsRemoved) return 1 - (reached ?? sparsity)
  const { attention, mlp } = operationsOf(spec, 1)
  const width = Math.max(1, ...spec.blocks.map((block) => block.width))
  const gone = (attention * (attentionRemoved ?? 0)) / spec.blocks.length + (mlp * (neuronsRemovedPerBlock ?? 0)) / width
  return 1 - gone / (attention + mlp)
}
