/** The scores that candidates are compared by: title, and which end is removed. */
export const candidateMeasures = {
  perplexity: { title: 'perplexity without it', goes: 'lowest' },
  /** One minus the cosine between a block's input and output. */
  influence: { title: 'influence of the block', goes: 'lowest' },
  /** Cosine between the input and output of a run of blocks. */
  similarity: { title: 'similarity of input and output', goes: 'highest' },
  /** The angle between input and output, as a share of half a turn. */
  angle: { title: 'angle between input and output', goes: 'lowest' },
} as const

export type CandidateMeasure = keyof typeof candidateMeasures

type Scored = { readonly [Measure in CandidateMeasure]?: number | undefined }

/** The names under which a candidate has a score. There should be exactly one. */
export function measuresIn(score: Scored): CandidateMeasure[] {
  return (Object.keys(candidateMeasures) as CandidateMeasure[]).filter((measure) => measure in score)
}

/** The measure of a candidate's score, and its value. */
export function scoreOf(score: Scored): { measure: CandidateMeasure; value: number } {
  const [measure = 'perplexity'] = measuresIn(score)
  return { measure, value: score[measure] ?? Number.NaN }
}
