/** A prefix of token ids, and several continuations of it. */
export interface LikelihoodRequest {
  readonly prefix: Int32Array
  readonly continuations: readonly Int32Array[]
}

/** The interface of a model for scoring. */
export interface LikelihoodModel {
  /**
   * The maximum number of tokens that the model reads at once. A prefix with a continuation may have one more, because the last token is
   * only predicted.
   */
  readonly contextLength: number
  /**
   * Sums the natural log-probabilities of each continuation's tokens after its prefix, in float64. Results are in the given order. The
   * requests run together, and a prefix runs once for all its continuations.
   */
  logProbabilities(requests: readonly LikelihoodRequest[], signal: AbortSignal): Promise<number[][]>
}
