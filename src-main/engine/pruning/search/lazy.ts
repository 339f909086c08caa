import { scoreOf } from '#contract/pruning/candidates.ts'
import type { Decision } from '#contract/runs/run.ts'

interface Named {
  readonly block: number
}

/** Candidates with their losses, in their original order, and by block those that were trusted instead of scored. */
export interface ScoredCandidates<Candidate> {
  readonly candidates: readonly Candidate[]
  readonly losses: readonly number[]
  readonly trusted: readonly number[]
}

/** The last score of each candidate of a kind, by block: perplexities. */
export function lastScores(past: readonly Decision[], kind: Decision['kind']): ReadonlyMap<number, number> {
  const decisions = past.filter((decision) => decision.kind === kind)
  return new Map(decisions.flatMap(({ scores }) => scores.map((score) => [score.block, scoreOf(score).value] as const)))
}

/**
 * Scores candidates by rising last score, `atOnce` at a time, starting with all that have none, until no remaining last score is as low as
 * the least one found. Every removal makes the model worse, so a candidate's loss has hardly ever fallen since it was last scored. For
 * those left out, we trust that it has not.
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
  const takeMost = (most: number) => waiting.splice(0, Math.max(most, waiting.findLastIndex((one) => !last.has(one.block)) + 1))
  let least = Number.POSITIVE_INFINITY
  for (let batch = takeMost(atOnce); batch.length > 0; batch = takeMost(Math.min(atOnce, stillOpen(waiting, lastOf, least)))) {
    const losses = await score(batch)
    for (const [index, one] of batch.entries()) found.set(one, losses[index] as number)
    least = Math.min(least, ...losses.map(Math.exp))
  }
  const scored = candidates.filter((one) => found.has(one))
  return {
    candidates: scored,
    losses: scored.map((one) => found.get(one) as number),
    trusted: candidates.filter((one) => !found.has(one)).map(({ block }) => block),
  }
}

/** How many of the waiting candidates, by rising last score, could still win. All of them if the least score is not finite. */
function stillOpen<Candidate extends Named>(waiting: readonly Candidate[], lastOf: (one: Named) => number, least: number): number {
  const first = waiting.findIndex((one) => lastOf(one) > least)
  return first < 0 ? waiting.length : first
}

/** How much a lazy search scored, and what it trusted. */
export function lazyNotes(decisions: readonly Decision[]): string[] {
  const [scored, left] = [decisions.flatMap(({ scores }) => scores).length, decisions.flatMap(({ trusted = [] }) => trusted).length]
  const rounds = decisions.filter(({ trusted = [] }) => trusted.length > 0).map(({ round }) => round)
  if (left === 0) return [`The lazy search scored all ${scored} candidates, so every choice is the exact one.`]
  return [
    `The lazy search scored ${scored} of ${scored + left} candidates. In ${rounds.length === 1 ? 'round' : 'rounds'} ${rounds.join(', ')} it left out those whose last score was worse than the winner’s, trusting that a score only rises as more is removed.`,
  ]
}
