import { at } from '#contract/at.ts'
import { distinctTrigrams, endsInLoop, loopingMeasure, repeatedEnding } from '#contract/comparison/answer-statistics.ts'
import type { TakenMeasure } from '#contract/runs/measures.ts'
import type { Windows } from '#engine/data/windows.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { fewRows } from '#engine/tensor/products.ts'
import { topIndices } from './generation/sampling.ts'

interface Greedy {
  readonly tokens: number
  readonly endIds: readonly number[]
  readonly signal?: AbortSignal
  /** Receives the number of finished answers. */
  progress?(done: number): void
}

/**
 * Measures how much a model repeats itself when it continues each prompt with its likeliest tokens. All prompts are cut to the length of
 * the shortest.
 */
export async function repetition(view: ModelView, prompts: Windows, name: string, greedy: Greedy): Promise<TakenMeasure[]> {
  const answers: number[][] = []
  const length = Math.min(...prompts.map((ids) => ids.length))
  for (let first = 0; first < prompts.length; first += fewRows) {
    const together = prompts.slice(first, first + fewRows).map((ids) => ids.subarray(0, length))
    answers.push(...(await continueGreedily(view, together, greedy)))
    greedy.progress?.(answers.length)
  }
  const mean = (of: (ids: number[]) => number) => answers.reduce((sum, ids) => sum + of(ids), 0) / answers.length
  const loops = answers.map(endsInLoop)
  const looping = loops.filter(Boolean).length / answers.length
  const error = Math.sqrt((looping * (1 - looping)) / answers.length)
  return [
    { name: loopingMeasure, dataset: name, value: looping, unit: 'share', error, hits: loops.map(Number).join('') },
    { name: 'distinct trigrams', dataset: name, value: mean(distinctTrigrams), unit: 'share' },
    { name: 'repeated ending', dataset: name, value: mean(repeatedEnding), unit: 'tokens' },
  ]
}

/** The likeliest continuation of each prompt, without the end token. */
async function continueGreedily(view: ModelView, prompts: Windows, { tokens, endIds, signal }: Greedy): Promise<number[][]> {
  const answers = prompts.map((): number[] => [])
  const session = new DecodingSession(view)
  try {
    let open = answers
    let logits = await session.feed(Int32Array.from(prompts.flatMap((ids) => [...ids])), prompts.length, signal)
    for (;;) {
      const chosen = logits.map((row) => at(topIndices(row, 1), 0))
      const going = open.flatMap((answer, place) => {
        const id = at(chosen, place)
        if (endIds.includes(id)) return []
        answer.push(id)
        return answer.length < tokens ? [place] : []
      })
      if (going.length === 0) return answers
      open = going.map((place) => at(open, place))
      session.select(going)
      logits = await session.feed(Int32Array.from(going.map((place) => at(chosen, place))), going.length, signal)
    }
  } finally {
    session.dispose()
  }
}
