import type { Checked } from '#contract/api.ts'
import { uniformNumbers } from '#contract/comparison/statistics.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TextFile } from '#contract/identifiers.ts'
import { type JudgedPair, type Standing, standings } from '#contract/judging/bradley-terry.ts'
import type { JudgedSides, Judgement, JudgingEntry, JudgingResult, JudgingState } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import { plural } from '#contract/words.ts'
import { newId } from '#db/ids.ts'
import type { StoredJudging, StoredVote } from '#db/transcripts.ts'
import { plainTable, toCsv } from '../comparison/table-text.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

export class JudgingsService extends Service {
  readonly calls: Calls<'judgings'> = {
    'judgings.list': () => this.history.judgings.list().map(entryOf),
    'judgings.start': (request) => this.#start(request),
    'judgings.get': ({ id }) => this.#state(id),
    'judgings.vote': ({ id, pair, vote }) => {
      const { number, pairs } = this.history.judgings.get(id)
      if (pair >= pairs.length) throw new EspalierError('invalid', `This judging has ${pairs.length} pairs, so there is no pair ${pair}.`)
      if (vote === null) this.history.judgings.takeBack(number, pair)
      else this.history.judgings.vote({ judging: number, pair, vote, at: Date.now() })
      return this.#state(id)
    },
    'judgings.result': ({ id }) => this.#result(id),
    'judgings.export': ({ id, format }) => judgingFile(this.#result(id), format),
    'judgings.remove': ({ id }) => {
      this.history.judgings.remove(this.history.judgings.get(id).id)
      return {}
    },
  }

  #start({ transcript: id, columns, title, seed }: Checked<'judgings.start'>): JudgingState {
    const transcript = this.history.transcripts.get(id)
    const pairs = drawPairs(transcript, columns ?? [...transcript.columns.keys()], seed ?? Date.now())
    const judging = newId('judging')
    const blindTitle = titleFor(transcript.prompts.length, columns?.length ?? transcript.columns.length)
    this.history.judgings.insert({ id: judging, title: title ?? blindTitle, transcript: id, pairs, createdAt: Date.now() })
    return this.#state(judging)
  }

  #state(id: string): JudgingState {
    const judging = this.history.judgings.get(id)
    const votes = this.history.judgings.votes(judging.number)
    const voted = new Set(votes.map(({ pair }) => pair))
    const next = judging.pairs.findIndex((_, pair) => !voted.has(pair))
    return {
      ...entryOf(judging),
      votes: votes.length,
      next: next < 0 ? null : this.#shown(judging, next),
      last: votes.at(-1)?.pair ?? null,
    }
  }

  #shown({ transcript, pairs }: StoredJudging, pair: number): JudgingState['next'] {
    const { prompts, answers } = this.history.transcripts.get(transcript)
    const { prompt, left, right } = pairs[pair] as JudgedSides
    const text = (column: number) => answers.find((answer) => answer.prompt === prompt && answer.column === column)?.text ?? ''
    return { pair, prompt: prompts[prompt] ?? '', left: text(left), right: text(right) }
  }

  #result(id: string): JudgingResult {
    const judging = this.history.judgings.get(id)
    return resultOf(judging, this.history.transcripts.get(judging.transcript), this.history.judgings.votes(judging.number))
  }
}

/** Returns a title that does not reveal which models gave the answers. */
function titleFor(prompts: number, models: number): string {
  return `${plural(prompts, 'prompt')}, ${models} models`
}

/** Pairs the columns on every prompt that both answered. The order of the pairs and the sides in each are random. */
function drawPairs({ prompts, answers, columns: all }: Transcript, columns: readonly number[], seed: number): JudgedSides[] {
  const unknown = columns.find((column) => column >= all.length)
  if (unknown !== undefined)
    throw new EspalierError('invalid', `This transcript has ${all.length} columns, so there is no column ${unknown}.`)
  const draw = uniformNumbers(seed)
  const answered = new Set(answers.filter(({ problem }) => problem === null).map(({ prompt, column }) => `${prompt} ${column}`))
  const pairs = prompts.flatMap((_, prompt) =>
    columns.flatMap((one, at) =>
      columns.slice(at + 1).flatMap((other): JudgedSides[] => {
        if (!answered.has(`${prompt} ${one}`) || !answered.has(`${prompt} ${other}`)) return []
        return [draw() < 0.5 ? { prompt, left: one, right: other } : { prompt, left: other, right: one }]
      }),
    ),
  )
  if (pairs.length === 0)
    throw new EspalierError('conflict', 'No prompt has two answers to judge. Choose a transcript with at least two columns.')
  // Fisher-Yates shuffle.
  for (let last = pairs.length - 1; last > 0; last--) {
    const other = Math.floor(draw() * (last + 1))
    ;[pairs[last], pairs[other]] = [pairs[other] as JudgedSides, pairs[last] as JudgedSides]
  }
  return pairs
}

/** Points that a vote gives the answer on the left. The answer on the right gets the rest of one point. */
const points: Record<Judgement, number> = { left: 1, right: 0, tie: 0.5, 'both bad': 0.5 }

function entryOf({ id, title, transcript, pairs, votes, createdAt }: StoredJudging): JudgingEntry {
  return { id, title, transcript, pairs: pairs.length, votes, createdAt }
}

function resultOf(judging: StoredJudging, transcript: Transcript, votes: readonly StoredVote[]): JudgingResult {
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
function judgingFile(result: JudgingResult, format: 'json' | 'csv'): TextFile {
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
