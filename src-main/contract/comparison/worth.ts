/** A perplexity over seeds, with one standard error where it is known. */
export interface Quality {
  mean: number
  error: number | null
}

/** One file, over all its seeds. `bytes` is its cost. */
export interface WorthRow {
  /** The runs, one for each seed. */
  runs: string[]
  name: string
  pruned: boolean
  /** Null where weights were measured as computed. */
  weights: string | null
  bytes: number
  /** Perplexity by kind of text. */
  quality: Record<string, Quality>
  /** Share of answers that end in a loop; null if unknown. */
  loops: number | null
}

/** How a pruned file compares with its rival, the best dense file of its size. */
export interface Duel {
  pruned: WorthRow
  rival: WorthRow | null
  outcome: 'better' | 'worse' | 'tie' | 'mixed' | 'no rival'
  /** Loops more often than the dense model. */
  vetoed: boolean
}
