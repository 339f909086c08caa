import type { TextFile } from '#contract/identifiers.ts'
import { type JudgedPair, type Standing, standings } from '#contract/judging/bradley-terry.ts'
import type { JudgedSides, Judgement, JudgingEntry, JudgingResult } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import type { StoredJudging, StoredVote } from '#db/judgings.ts'
import { plainTable, toCsv } from '../comparison/table-text.ts'

/** Points that a vote gives the answer on the left. The answer on the right gets the rest of one point. */
const points: Record<Judgement, number> = { left: 1, right: 0, tie: 0.5, 'both bad': 0.5 }

export function entryOf({ id, title, transcript, pairs, votes, createdAt }: StoredJudging): JudgingEntry {
  return { id, title, transcript, pairs: pairs.length, votes, createdAt }
}

export function resultOf(judging: StoredJudging, transcript: Transcript, votes: readonly StoredVote[]): JudgingResult {
  const { prompts, promptTags } = transcript
  const names = transcript.columns.map(({ model, run }) => run?.name ?? model.name)
  const votedOn = votes.map((vote) => ({ ...vote, ...(judging.pairs[vote.pair] as JudgedSides) }))
  const contestants = [...new Set(judging.pairs.flatMap(({ left, right }) => [left, right]))].sort((a, b) => a - b)
  const indexOf = (column: number) => contestants.indexOf(column)
  const pairs = votedOn.map(
    ({ prompt, left, right, vote }): JudgedPair => ({ prompt, first: indexOf(left), second: indexOf(right), score: points[vote] }),
  )
  const ranked = pairs.length > 0 ? standings(contestants.length, pairs) : contestants.map(() => withoutVotes)
  const nameAt = (index: number) => names[contestants[index] ?? -1] ?? ''
  const pointsOver = (chosen: (prompt: number) => boolean) =>
    contestants.flatMap((_, index) => {
      const own = pairs.filter(({ prompt, first, second }) => chosen(prompt) && (first === index || second === index))
      return own.length === 0 ? [] : [{ name: nameAt(index), pairs: own.length, score: meanPoints(own, index) }]
    })
  const tags = [...new Set(promptTags.flat())]
  return {
    ...entryOf(judging),
    votes: votes.length,
    standings: contestants
      .map((column, index) => ({ name: nameAt(index), ...countsOf(column, votedOn), ...(ranked[index] as Standing) }))
      .sort((a, b) => b.strength - a.strength),
    byPrompt: prompts.map((prompt, index) => ({ prompt, points: pointsOver((one) => one === index) })).filter(hasPoints),
    byTag: tags.map((tag) => ({ tag, points: pointsOver((prompt) => promptTags[prompt]?.includes(tag) ?? false) })).filter(hasPoints),
    list: votedOn.map(({ prompt, left, right, ...vote }) => ({
      ...vote,
      prompt: prompts[prompt] ?? '',
      tags: promptTags[prompt] ?? [],
      left: names[left] ?? '',
      right: names[right] ?? '',
    })),
  }
}

const hasPoints = ({ points: own }: { points: unknown[] }): boolean => own.length > 0

function meanPoints(pairs: readonly JudgedPair[], contestant: number): number {
  return pairs.reduce((sum, { first, score }) => sum + (first === contestant ? score : 1 - score), 0) / pairs.length
}

/** The standing of every answer before the first vote. */
const withoutVotes: Standing = { strength: 0, interval: { low: 0, high: 0 }, winRate: 0.5, winInterval: { low: 0, high: 1 } }

function countsOf(column: number, votes: readonly (JudgedSides & { vote: Judgement })[]) {
  const own = votes.filter(({ left, right }) => left === column || right === column)
  const count = (holds: (vote: (typeof own)[number]) => boolean) => own.filter(holds).length
  return {
    wins: count(({ left, vote }) => vote === (left === column ? 'left' : 'right')),
    losses: count(({ left, vote }) => vote === (left === column ? 'right' : 'left')),
    ties: count(({ vote }) => vote === 'tie'),
    bothBad: count(({ vote }) => vote === 'both bad'),
  }
}

/** Returns a file with the whole result as JSON, or with its votes as CSV. */
export function judgingFile(result: JudgingResult, format: 'json' | 'csv'): TextFile {
  if (format === 'json') return { fileName: 'judging.json', type: 'application/json', content: `${JSON.stringify(result, null, 1)}\n` }
  const labels = ['pair', 'prompt', 'tags', 'left', 'right', 'vote', 'at']
  const rows = result.list.map(({ pair, prompt, tags, left, right, vote, at }) => [
    pair,
    prompt,
    tags.join(' '),
    left,
    right,
    vote,
    new Date(at).toISOString(),
  ])
  return { fileName: 'judging.csv', type: 'text/csv', content: toCsv(plainTable(labels, rows)) }
}
