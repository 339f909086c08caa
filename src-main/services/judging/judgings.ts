import { uniformNumbers } from '#contract/comparison/statistics.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TextFile } from '#contract/identifiers.ts'
import { type JudgedPair, type Standing, standings } from '#contract/judging/bradley-terry.ts'
import type { JudgedSides, Judgement, JudgingEntry, JudgingResult, JudgingState } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import { newId } from '#db/ids.ts'
import type { StoredJudging, StoredVote } from '#db/judgings.ts'
import { toCsv } from '../comparison/table-text.ts'
import type { Context, Service } from '../context.ts'

/** Points for the answer on the left. */
const points: Record<Judgement, number> = { left: 1, right: 0, tie: 0.5, 'both bad': 0.5 }

export function judgingsService({ history }: Pick<Context, 'history'>): Service<'judgings'> {
  const { judgings } = history

  function find(id: string): StoredJudging {
    const judging = judgings.find(id)
    if (!judging) throw new EspalierError('not-found', `There is no judging ${id}.`)
    return judging
  }

  function transcriptOf(id: string): Transcript {
    const transcript = history.transcripts.find(id)
    if (!transcript) throw new EspalierError('not-found', `There is no transcript ${id}.`)
    return transcript
  }

  function stateOf(judging: StoredJudging): JudgingState {
    const votes = judgings.votes(judging.number)
    const voted = new Set(votes.map(({ pair }) => pair))
    const next = judging.pairs.findIndex((_, pair) => !voted.has(pair))
    return { ...entryOf(judging), votes: votes.length, next: next < 0 ? null : shown(judging, next), last: votes.at(-1)?.pair ?? null }
  }

  function shown({ transcript, pairs }: StoredJudging, pair: number): JudgingState['next'] {
    const { prompts, answers } = transcriptOf(transcript)
    const { prompt, left, right } = pairs[pair] as JudgedSides
    const text = (column: number) => answers.find((answer) => answer.prompt === prompt && answer.column === column)?.text ?? ''
    return { pair, prompt: prompts[prompt] ?? '', left: text(left), right: text(right) }
  }

  return {
    'judgings.list': () => judgings.list().map(entryOf),
    'judgings.start'({ transcript: id, columns, title, seed }) {
      const transcript = transcriptOf(id)
      const pairs = drawPairs(transcript, columns ?? [...transcript.columns.keys()], seed ?? Date.now())
      const judging = newId('judging')
      judgings.insert({
        id: judging,
        title: title ?? blindTitle(transcript.prompts.length, columns?.length ?? transcript.columns.length),
        transcript: id,
        pairs,
        createdAt: Date.now(),
      })
      return stateOf(find(judging))
    },
    'judgings.get': ({ id }) => stateOf(find(id)),
    'judgings.vote'({ id, pair, vote }) {
      const judging = find(id)
      if (pair >= judging.pairs.length)
        throw new EspalierError('invalid', `This judging has ${judging.pairs.length} pairs, so there is no pair ${pair}.`)
      if (vote === null) judgings.takeBack(judging.number, pair)
      else judgings.vote({ judging: judging.number, pair, vote, at: Date.now() })
      return stateOf(judging)
    },
    'judgings.result'({ id }) {
      const judging = find(id)
      return resultOf(judging, transcriptOf(judging.transcript), judgings.votes(judging.number))
    },
    'judgings.export'({ id, format }) {
      const judging = find(id)
      return judgingFile(resultOf(judging, transcriptOf(judging.transcript), judgings.votes(judging.number)), format)
    },
    'judgings.remove'({ id }) {
      if (!judgings.remove(id)) throw new EspalierError('not-found', `There is no judging ${id}.`)
      return {}
    },
  }
}

/** A title that does not reveal whose answers they are. */
function blindTitle(prompts: number, models: number): string {
  return `${prompts} ${prompts === 1 ? 'prompt' : 'prompts'}, ${models} models`
}

function entryOf({ id, title, transcript, pairs, votes, createdAt }: StoredJudging): JudgingEntry {
  return { id, title, transcript, pairs: pairs.length, votes, createdAt }
}

/** Every pair of columns on every prompt that both answered, in random order and on random sides. */
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

function resultOf(judging: StoredJudging, transcript: Transcript, votes: readonly StoredVote[]): JudgingResult {
  const names = transcript.columns.map(({ model, run }) => run?.name ?? model.name)
  const votedOn = votes.map((vote) => ({ ...vote, ...(judging.pairs[vote.pair] as JudgedSides) }))
  const taking = [...new Set(judging.pairs.flatMap(({ left, right }) => [left, right]))].sort((a, b) => a - b)
  const place = (column: number) => taking.indexOf(column)
  const pairs = votedOn.map(
    ({ prompt, left, right, vote }): JudgedPair => ({ prompt, first: place(left), second: place(right), score: points[vote] }),
  )
  const ranked = pairs.length > 0 ? standings(taking.length, pairs) : taking.map(() => undrawn)
  const tagged = new Set(transcript.promptTags.flat())
  const pointsOver = (chosen: (prompt: number) => boolean) =>
    taking.flatMap((column, at) => {
      const own = pairs.filter((pair) => chosen(pair.prompt) && (pair.first === at || pair.second === at))
      if (own.length === 0) return []
      const score = own.reduce((sum, { first, score }) => sum + (first === at ? score : 1 - score), 0) / own.length
      return [{ name: names[column] ?? '', pairs: own.length, score }]
    })
  return {
    ...entryOf(judging),
    votes: votes.length,
    standings: taking
      .map((column, at) => ({ name: names[column] ?? '', ...countsOf(column, votedOn), ...(ranked[at] as Standing) }))
      .sort((a, b) => b.strength - a.strength),
    byPrompt: transcript.prompts.flatMap((prompt, at) => {
      const own = pointsOver((asked) => asked === at)
      return own.length > 0 ? [{ prompt, points: own }] : []
    }),
    byTag: [...tagged].flatMap((tag) => {
      const own = pointsOver((asked) => transcript.promptTags[asked]?.includes(tag) ?? false)
      return own.length > 0 ? [{ tag, points: own }] : []
    }),
    list: votedOn.map(({ pair, prompt, left, right, vote, at }) => ({
      pair,
      prompt: transcript.prompts[prompt] ?? '',
      tags: transcript.promptTags[prompt] ?? [],
      left: names[left] ?? '',
      right: names[right] ?? '',
      vote,
      at,
    })),
  }
}

const undrawn: Standing = { strength: 0, interval: { low: 0, high: 0 }, winRate: 0.5, winInterval: { low: 0, high: 1 } }

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

/** A whole judging as JSON, or its votes as a table. */
function judgingFile(result: JudgingResult, format: 'json' | 'csv'): TextFile {
  if (format === 'json') return { fileName: 'judging.json', type: 'application/json', content: `${JSON.stringify(result, null, 1)}\n` }
  const labels = ['pair', 'prompt', 'tags', 'left', 'right', 'vote', 'at']
  const rows = result.list.map(({ pair, prompt, tags, left, right, vote, at }) =>
    [pair, prompt, tags.join(' '), left, right, vote, new Date(at).toISOString()].map((value) => ({ value })),
  )
  return {
    fileName: 'judging.csv',
    type: 'text/csv',
    content: toCsv({ columns: labels.map((label) => ({ label, numeric: false })), rows }),
  }
}
