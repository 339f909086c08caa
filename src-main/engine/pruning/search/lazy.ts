import { scoreOf } from '#contract/pruning/candidates.ts'
import type { Decision } from '#contract/runs/run.ts'

interface Named {
  readonly block: number
}

/** The candidates that were scored, in their original order. */
export interface ScoredCandidates<Candidate> {
  readonly candidates: readonly Candidate[]
  /** The loss of each of them. */
  readonly losses: readonly number[]
  /** The blocks of the candidates that were not scored, because we trust that they are worse. */
  readonly trusted: readonly number[]
}

/** Returns the last score, a perplexity, of each candidate of a kind, by block. */
export function lastScores(past: readonly Decision[], kind: Decision['kind']): ReadonlyMap<number, number> {
  const decisions = past.filter((decision) => decision.kind === kind)
  return new Map(decisions.flatMap(({ scores }) => scores.map((score) => [score.block, scoreOf(score).value] as const)))
}

/**
 * Scores candidates in order of their last score, best first and `atOnce` at a time. Those without a last score come first. Stops when
 * every remaining last score is worse than the best new one. A removal makes the model worse, so the loss of a candidate hardly ever falls
 * from one round to the next. For the skipped candidates, we trust that it has not.
 */
export async function scoreLazily<Candidate extends Named>(
  candidates: readonly Candidate[],
  last: ReadonlyMap<number, number>,
  atOnce: number,
  score: (some: readonly Candidate[]) => Promise<Float64Array>,
): Promise<ScoredCandidates<Candidate>> {
  const lastOf = ({ block }: Named) => last.get(block) ?? Number.NEGATIVE_INFINITY
  const waiting = candidates.toSorted((a, b) => lastOf(a) - lastOf(b) || a.block - b.block)
  const found = new Map<Candidate, number>()
  const takeBatch = (count: number) => waiting.splice(0, Math.max(count, waiting.findLastIndex((one) => !last.has(one.block)) + 1))
  let best = Number.POSITIVE_INFINITY
  for (let batch = takeBatch(atOnce); batch.length > 0; batch = takeBatch(Math.min(atOnce, countOpen(waiting, lastOf, best)))) {
    const losses = await score(batch)
    for (const [index, one] of batch.entries()) found.set(one, losses[index] as number)
    best = Math.min(best, ...losses.map(Math.exp))
  }
  const scored = candidates.filter((one) => found.has(one))
  return {
    candidates: scored,
    losses: scored.map((one) => found.get(one) as number),
    trusted: candidates.filter((one) => !found.has(one)).map(({ block }) => block),
  }
}

/** Returns how many of the waiting candidates, sorted by last score, could still win. All of them can if the best score is not finite. */
function countOpen<Candidate extends Named>(waiting: readonly Candidate[], lastOf: (one: Named) => number, best: number): number {
  const first = waiting.findIndex((one) => lastOf(one) > best)
  return first < 0 ? waiting.length : first
}

/** Returns a note on how many candidates a lazy search scored and which rounds skipped some. */
export function lazyNotes(decisions: readonly Decision[]): string[] {
  const [scored, skipped] = [decisions.flatMap(({ scores }) => scores).length, decisions.flatMap(({ trusted = [] }) => trusted).length]
  const rounds = decisions.filter(({ trusted = [] }) => trusted.length > 0).map(({ round }) => round)
  if (skipped === 0) return [`The lazy search scored all ${scored} candidates, so every choice is the exact one.`]
  return [
    `The lazy search scored ${scored} of ${scored + skipped} candidates. In ${rounds.length === 1 ? 'round' : 'rounds'} ${rounds.join(', ')} it skipped those whose last score was worse than the winner’s, trusting that a score only gets worse as more is removed.`,
  ]
}
