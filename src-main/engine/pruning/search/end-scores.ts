/** Sums scores over the rows that predict a token. The last row of each window predicts none. */
export function sumPredicted(scores: Float64Array, tokens: number): number {
  return scores.filter((_, row) => row % tokens !== tokens - 1).reduce((total, score) => total + score, 0)
}
