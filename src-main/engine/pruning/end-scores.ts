import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { rowDivergences } from '#engine/model/divergence.ts'
import type { WindowGroup } from '#engine/model/forward.ts'
import { nextTokens, tokenLosses } from '#engine/model/likelihood.ts'
import type { Vocabulary } from '#engine/model/vocabulary.ts'
import type { Products } from '#engine/tensor/products.ts'
import { type DenseStates, disposeDistribution } from './dense-states.ts'

/** What variants are scored by, of their final hidden states [B*T, D] each: a number for every row, in nats; lower is better. */
export type EndScores = (hidden: readonly Tensor2D[], group: WindowGroup) => Promise<Float64Array[]>

/** Loss of the next token. */
export function lossScores(vocabulary: Vocabulary, products: Products): EndScores {
  return async (hidden, { ids, tokens }) => {
    const targets = nextTokens(ids, tokens)
    const scores: Float64Array[] = []
    for (const rows of hidden) scores.push(await tokenLosses(vocabulary, rows, targets, products))
    return scores
  }
}

/** Divergence of the next token's distribution from the dense one. `windows` are those that groups number. */
export function divergenceScores(vocabulary: Vocabulary, products: Products, dense: DenseStates, windows: Windows): EndScores {
  return async (hidden, { indices }) => {
    const distribution = await dense.of(indices.map((index) => windows[index] as Int32Array))
    const scores = await rowDivergences(vocabulary, distribution, hidden, products)
    disposeDistribution(distribution)
    return scores
  }
}

/** The sum of scores over the rows that predict a token: the last of each window has none to predict. */
export function sumPredicted(scores: Float64Array, tokens: number): number {
  return scores.filter((_, row) => row % tokens !== tokens - 1).reduce((total, score) => total + score, 0)
}
