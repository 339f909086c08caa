import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { WindowGroup } from '#engine/model/forward.ts'
import { nextTokens, tokenLosses } from '#engine/model/likelihood.ts'
import type { Vocabulary } from '#engine/model/vocabulary.ts'
import type { Products } from '#engine/tensor/products.ts'

/** Losses of the next token behind final hidden states [B*T, D] of variants: a number for every row of each, in nats. */
export async function lossScores(
  vocabulary: Vocabulary,
  hidden: readonly Tensor2D[],
  { ids, tokens }: Pick<WindowGroup, 'ids' | 'tokens'>,
  products: Products,
): Promise<Float64Array[]> {
  const targets = nextTokens(ids, tokens)
  const scores: Float64Array[] = []
  for (const rows of hidden) scores.push(await tokenLosses(vocabulary, rows, targets, products))
  return scores
}

/** The sum of scores over the rows that predict a token: the last of each window has none to predict. */
export function sumPredicted(scores: Float64Array, tokens: number): number {
  return scores.filter((_, row) => row % tokens !== tokens - 1).reduce((total, score) => total + score, 0)
}
