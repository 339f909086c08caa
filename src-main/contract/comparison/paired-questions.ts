import type { TaskOutcomes } from '../data/questions.ts'
import { bootstrapMean, type Estimate, type Interval, mcnemar, shareAndError } from './statistics.ts'

/** Default significance level: by chance, a difference at least this uneven occurs once in twenty times. */
export const noiseLevel = 0.05

/**
 * Two models on the same questions, by one measure. `gained` counts questions that only the second model got right, `lost` those that only
 * the first got right.
 */
interface PairedTask {
  task: string
  /** The measure's name as in the tables. */
  measure: 'accuracy' | 'accuracy per character'
  questions: number
  first: Estimate
  second: Estimate
  gained: number
  lost: number
  /** The probability of such a difference by chance, from McNemar's exact test. */
  probability: number
}

/** Compares two models on every task that both answered with the same questions. */
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

/** Per question: 1 if only the second model is right, -1 if only the first is, else 0. */
function differencesOf(first: string, second: string): number[] {
  return Array.from(first, (own, at) => Number(second[at]) - Number(own))
}

/** Returns the 95 % interval of the difference in accuracy, from a paired bootstrap. */
export function differenceInterval(first: string, second: string): Interval {
  return bootstrapMean(differencesOf(first, second))
}
