import type { Checked } from '#contract/api.ts'
import { uniformNumbers } from '#contract/comparison/statistics.ts'
import { EspalierError } from '#contract/errors.ts'
import type { JudgedSides, JudgingResult, JudgingState } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import { plural } from '#contract/words.ts'
import { newId } from '#db/ids.ts'
import type { StoredJudging } from '#db/judgings.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { entryOf, judgingFile, resultOf } from './judging-result.ts'

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
