/** What candidates are compared by, each under its own name: what it is called, and which end of it goes. */
export const candidateMeasures = {
  /** Perplexity without the candidate. */
  perplexity: { title: 'perplexity without it', goes: 'lowest' },
  /** One minus the cosine of a block's input and output. */
  influence: { title: 'influence of the block', goes: 'lowest' },
  /** Cosine of what goes into a run of blocks and what comes out. */
  similarity: { title: 'similarity of input and output', goes: 'highest' },
  /** Their angle, as a share of half a turn. */
  angle: { title: 'angle between input and output', goes: 'lowest' },
} as const

export type CandidateMeasure = keyof typeof candidateMeasures

type Scored = { readonly [Measure in CandidateMeasure]?: number | undefined }

/** The names under which a candidate has a score; there should be one. */
export function measuresIn(score: Scored): CandidateMeasure[] {
  return (Object.keys(candidateMeasures) as CandidateMeasure[]).filter((measure) => measure in score)
}

/** The measure of a candidate's score, and its value. */
export function scoreOf(score: Scored): { measure: CandidateMeasure; value: number } {
  const [measure = 'perplexity'] = measuresIn(score)
  return { measure, value: score[measure] ?? Number.NaN }
}
