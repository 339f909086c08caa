/** Token ids that several continuations follow. */
export interface LikelihoodRequest {
  prefix: Int32Array
  continuations: Int32Array[]
}

export interface Likelihood {
  /** Sum of the natural log-probabilities of the continuation's tokens. */
  logProbability: number
  /** Whether each of its tokens was the likeliest one. */
  greedy: boolean
}

/** What scoring needs of a model. */
export interface LikelihoodModel {
  /** Most tokens the model reads at once; a prefix with a continuation has at most one more. */
  contextLength: number
  /**
   * Likelihood of every continuation after its prefix, in float64, in the order given. A prefix is run once for all its continuations;
   * the last token of a continuation is never read, only predicted. `report` gets the requests done so far.
   */
  logProbabilities(requests: LikelihoodRequest[], signal: AbortSignal, report: (done: number) => void): Promise<Likelihood[][]>
}
