/** The scores that candidates are compared by. `goes` says whether the lowest or the highest is removed. */
export const candidateMeasures = {
  perplexity: { title: 'perplexity without it', goes: 'lowest' },
  /** One minus the cosine between a block's input and output. */
  influence: { title: 'influence of the block', goes: 'lowest' },
  /** Cosine between the input and output of a run of blocks. */
  similarity: { title: 'similarity of input and output', goes: 'highest' },
  /** The angle between input and output, as a share of 180 degrees. */
  angle: { title: 'angle between input and output', goes: 'lowest' },
} as const

export type CandidateMeasure = keyof typeof candidateMeasures

type Scored = { readonly [Measure in CandidateMeasure]?: number | undefined }

/** Returns the measures that a candidate has a score for. There should be exactly one. */
export function measuresIn(score: Scored): CandidateMeasure[] {
  return (Object.keys(candidateMeasures) as CandidateMeasure[]).filter((measure) => measure in score)
}

/** Returns the measure and the value of a candidate's score. */
export function scoreOf(score: Scored): { measure: CandidateMeasure; value: number } {
  const [measure = 'perplexity'] = measuresIn(score)
  return { measure, value: score[measure] ?? Number.NaN }
}
