import { diffArrays } from 'diff'
import { endsInLoop, repetitionRate } from '#contract/comparison/answer-statistics.ts'
import type { GeneratedToken, GenerationEvent } from '#contract/playground/generation.ts'
import type { Transcript, TranscriptAnswer, TranscriptColumn, TranscriptEntry } from '#contract/playground/playground.ts'
import { upperFirst } from '#contract/words.ts'
import { formatShare } from '../../lib/format.ts'

/** One answer as the screen shows it, finished or still arriving. */
export interface LiveAnswer {
  tokens: GeneratedToken[]
  text: string
  end: TranscriptAnswer['end'] | null
  seconds: number | null
  firstTokenSeconds: number | null
  tokensPerSecond: number | null
  problem: string | null
}

export type Answers = ReadonlyMap<string, LiveAnswer>

export function answerKey(prompt: number, column: number): string {
  return `${prompt}:${column}`
}

const empty: LiveAnswer = { tokens: [], text: '', end: null, seconds: null, firstTokenSeconds: null, tokensPerSecond: null, problem: null }

/** Returns the answers after a batch of events. Answers without an event stay the same objects. */
export function takeEvents(answers: Answers, events: readonly GenerationEvent[]): Map<string, LiveAnswer> {
  const next = new Map(answers)
  const fresh = new Set<string>()
  for (const event of events) {
    const key = answerKey(event.prompt, event.column)
    const before = next.get(key) ?? empty
    if (event.type === 'token') {
      // Copies the tokens once per batch, then appends in place. Otherwise every token would copy a long answer.
      const tokens = fresh.has(key) ? before.tokens : [...before.tokens]
      tokens.push(event.token)
      fresh.add(key)
      next.set(key, { ...before, tokens, text: before.text + event.token.text })
    } else if (event.type === 'answer') {
      const { end, seconds, firstTokenSeconds, tokensPerSecond, problem, text, tokens } = event
      next.set(key, { tokens: tokens.length > 0 ? tokens : before.tokens, text, end, seconds, firstTokenSeconds, tokensPerSecond, problem })
    } else next.set(key, before)
  }
  return next
}

export function answersOf(transcript: Transcript): Map<string, LiveAnswer> {
  return new Map(transcript.answers.map(({ prompt, column, ...answer }) => [answerKey(prompt, column), answer]))
}

/**
 * Says what an answer is waiting for: the model, its turn, or its prompt. Empty once it has a token or has ended. If the session ended before
 * it began, says how.
 */
export function waitingText(answers: Answers, prompt: number, column: number, status: TranscriptEntry['status']): string {
  const answer = answers.get(answerKey(prompt, column))
  if (answer?.end || answer?.tokens.length) return ''
  if (status !== 'running') return status === 'done' ? '' : `${upperFirst(status)}, no answer`
  if (answer) return 'Reading the prompt …'
  return answers.size > 0 ? 'Waiting …' : 'Loading the model …'
}

/** Says how a finished answer repeats itself: `12 % repeated, ends in a loop`. Empty if it does not. */
export function repetitionText({ tokens, end }: Pick<LiveAnswer, 'tokens' | 'end'>): string {
  if (end === null) return ''
  const ids = tokens.map(({ id }) => id)
  const rate = repetitionRate(ids)
  return [rate >= 0.005 ? `${formatShare(Number(rate.toFixed(2)))} repeated` : '', endsInLoop(ids) ? 'ends in a loop' : '']
    .filter(Boolean)
    .join(', ')
}

/** The title of a column. In blind mode it is only a letter until the models are revealed. */
export function columnTitle(column: TranscriptColumn | undefined, at: number, hidden: boolean): string {
  if (hidden || !column) return `Model ${String.fromCharCode(65 + at)}`
  return column.run?.name ?? 'dense'
}

/** The column that the others are compared with: the dense one, otherwise the first. */
export function referenceColumn(columns: readonly TranscriptColumn[]): number {
  const dense = columns.findIndex(({ run }) => run === null || run.method === 'dense')
  return Math.max(0, dense)
}

/** Shuffles columns for a blind comparison. The seed decides the order, so that a reload keeps it. */
export function blindOrder(count: number, seed: string): number[] {
  let state = [...seed].reduce((sum, letter) => (Math.imul(sum, 31) + letter.charCodeAt(0)) >>> 0, 7)
  const order = Array.from({ length: count }, (_, at) => at)
  for (let at = count - 1; at > 0; at -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const other = Math.floor((state / 2 ** 32) * (at + 1))
    ;[order[at], order[other]] = [order[other] as number, order[at] as number]
  }
  return order
}

/** Counts the votes for each column over all prompts. */
export function countVotes(votes: Transcript['votes'], columns: number): number[] {
  const counts = new Array<number>(columns).fill(0)
  for (const { column } of votes) if (column !== null) counts[column] = (counts[column] ?? 0) + 1
  return counts
}

/** Makes the spaces and line ends of a token visible, for the card that explains it. */
export function showToken(text: string): string {
  return text.replaceAll('\n', '⏎').replaceAll(' ', '␣') || '(nothing)'
}

/** Answers that differ in more tokens than this are compared only up to the first difference, because the time grows with the number. */
const furthest = 4000

/**
 * Says for each token of `answer` whether the reference has it too, in the same order (longest common subsequence). Where tokenizers cut the
 * same text differently, its tokens count as the same.
 */
export function sharedTokens(reference: readonly string[], answer: readonly string[]): boolean[] {
  const parts = diffArrays([...reference], [...answer], { maxEditLength: furthest })
  if (!parts) {
    const end = answer.findIndex((token, at) => token !== reference[at])
    return answer.map((_, at) => end < 0 || at < end)
  }
  return parts.flatMap(({ added, removed, value }, at) => {
    if (removed) return []
    if (!added) return value.map(() => true)
    const others = [parts[at - 1], parts[at + 1]].find((part) => part?.removed)
    return recutTokens(others?.value.join('') ?? '', value)
  })
}

/** Says which tokens lie within the text that both have at the start or at the end, although they cut it differently. */
function recutTokens(reference: string, tokens: readonly string[]): boolean[] {
  const own = tokens.join('')
  const most = Math.min(own.length, reference.length)
  let [start, end] = [0, 0]
  while (start < most && own[start] === reference[start]) start++
  while (end < most - start && own.at(-1 - end) === reference.at(-1 - end)) end++
  let place = 0
  return tokens.map((token) => {
    const before = place
    place += token.length
    return token !== '' && (place <= start || before >= own.length - end)
  })
}

/** Share of the answer's tokens that the reference has too. */
export function sharedShare(shared: readonly boolean[]): number {
  return shared.length === 0 ? 1 : shared.filter(Boolean).length / shared.length
}
