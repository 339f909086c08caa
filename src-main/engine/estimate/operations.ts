import { blockParameters, unmetParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { outlineOf } from '#engine/pruning/outline.ts'

/**
 * Operations of one window in the average attention submodule, the average MLP and the head. In a mixture, only the experts that a token
 * uses count.
 */
export function operationsOf(spec: DecoderSpec, tokens: number): { attention: number; mlp: number; head: number } {
  const blocks = spec.blocks.map((_, index) => {
    const { attention, mlp } = blockParameters(spec, index)
    return { attention, mlp: mlp - unmetParameters(spec, index) }
  })
  const mean = (part: 'attention' | 'mlp') => blocks.reduce((sum, block) => sum + block[part], 0) / blocks.length
  return {
    attention: 2 * tokens * mean('attention') + 2 * tokens ** 2 * spec.heads * spec.headSize,
    mlp: 2 * tokens * mean('mlp'),
    head: 2 * tokens * spec.vocabulary * spec.hidden,
  }
}

/**
 * The share of the stack's work that remains after pruning. Removing experts saves no work, because a token still uses the same number of
 * them.
 */
export function leftBy(
  spec: DecoderSpec,
  { expertsRemoved, attentionRemoved, blocksRemoved, neuronsRemovedPerBlock, reached }: ReturnType<typeof outlineOf>,
  sparsity: number,
): number {
  // Without rows of the vocabulary, the stack has the same work.
  if (attentionRemoved === 0 && blocksRemoved === 0 && neuronsRemovedPerBlock === 0 && !expertsRemoved) return 1
  if (!expertsRemoved) return 1 - (reached ?? sparsity)
  const { attention, mlp } = operationsOf(spec, 1)
  const width = Math.max(1, ...spec.blocks.map((block) => block.width))
  const removed = (attention * (attentionRemoved ?? 0)) / spec.blocks.length + (mlp * (neuronsRemovedPerBlock ?? 0)) / width
  return 1 - removed / (attention + mlp)
}
