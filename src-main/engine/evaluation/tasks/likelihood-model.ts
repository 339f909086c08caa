/** Token ids that several continuations follow. */
export interface LikelihoodRequest {
  readonly prefix: Int32Array
  readonly continuations: readonly Int32Array[]
}

/** What scoring needs of a model. */
export interface LikelihoodModel {
  /** Most tokens the model reads at once; a prefix with a continuation has at most one more. */
  readonly contextLength: number
  /**
   * Sum of the natural log-probabilities of the tokens of every continuation after its prefix, in float64, in the given order. The requests
   * run together, and a prefix runs once for all its continuations. The last token of a continuation is never read, only predicted.
   */
  logProbabilities(requests: readonly LikelihoodRequest[], signal: AbortSignal): Promise<number[][]>
}
