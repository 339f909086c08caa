import type { TaskOutcomes } from '../data/questions.ts'
import { bootstrapMean, type Estimate, type Interval, mcnemar, shareAndError } from './statistics.ts'

/** What is taken for the same when nothing else is said: a difference at least as uneven comes by chance once in twenty. */
export const noiseLevel = 0.05

/** Two models on the same questions, by one measure: `gained` became right in the second, `lost` became wrong. */
export interface PairedTask {
  task: string
  /** The measure's name, as in the tables. */
  measure: 'accuracy' | 'accuracy per character'
  questions: number
  first: Estimate
  second: Estimate
  gained: number
  lost: number
  /** McNemar's exact test. */
  probability: number
}

/** Every task that both models answered with the same questions. */
export function pairTasks(first: readonly TaskOutcomes[], second: readonly TaskOutcomes[]): PairedTask[] {
  return first.flatMap((own) => {
    const other = second.find(({ task, hash }) => task === own.task && hash === own.hash)
    if (!other) return []
    const plain = pair(own.task, 'accuracy', own.correct, other.correct)
    if (own.correctPerCharacter === undefined || other.correctPerCharacter === undefined) return [plain]
    return [plain, pair(own.task, 'accuracy per character', own.correctPerCharacter, other.correctPerCharacter)]
  })
}

function pair(task: string, measure: PairedTask['measure'], first: string, second: string): PairedTask {
  const questions = first.length
  const right = (outcomes: string) => outcomes.split('1').length - 1
  const differences = differencesOf(first, second)
  const gained = differences.filter((difference) => difference > 0).length
  const lost = differences.filter((difference) => difference < 0).length
  return {
    task,
    measure,
    questions,
    first: shareAndError(right(first), questions),
    second: shareAndError(right(second), questions),
    gained,
    lost,
    probability: mcnemar(gained, lost),
  }
}

/** 1 for a question that only the second model answers rightly, -1 for one that only the first does, else 0. */
export function differencesOf(first: string, second: string): number[] {
  return Array.from(first, (own, at) => Number(second[at]) - Number(own))
}

/** The paired bootstrap's interval of the difference in accuracy. */
export function differenceInterval(first: string, second: string): Interval {
  return bootstrapMean(differencesOf(first, second))
}
