import type { MeasureName, TakenMeasure } from '#contract/runs/measures.ts'
import { mmluGroups } from './index.ts'
import type { Outcome } from './score.ts'

interface Share {
  value: number
  /** Standard error; undefined for a single question. */
  error: number | undefined
  questions: number
}

/**
 * The measures of one task: `accuracy`, and `accuracy per character` if it is defined, with standard errors. Tasks with subjects have only
 * `accuracy`: a row for the task, for each group and for each subject. A group's value and error are pooled from its subjects.
 */
export function measureAccuracy(task: string, outcomes: readonly Omit<Outcome, 'scores'>[]): TakenMeasure[] {
  const subjects = [...new Set(outcomes.flatMap((outcome) => outcome.subject ?? []))].sort()
  if (subjects.length === 0) return measureRows(task, outcomes)
  const shares = new Map(
    subjects.map((subject) => [
      subject,
      share(outcomes.filter((outcome) => outcome.subject === subject).map((outcome) => outcome.correct)),
    ]),
  )
  const rows = [shareMeasure('accuracy', task, pool([...shares.values()]))]
  for (const group of [...new Set(Object.values(mmluGroups))].sort()) {
    const members = subjects.filter((subject) => mmluGroups[subject] === group)
    if (members.length === 0) continue
    rows.push(shareMeasure('accuracy', `${task}_${group}`, pool(members.flatMap((subject) => shares.get(subject) ?? []))))
    for (const subject of members) rows.push(shareMeasure('accuracy', `${task}_${subject}`, shares.get(subject) as Share))
  }
  return rows
}

function measureRows(task: string, outcomes: readonly Omit<Outcome, 'scores'>[]): TakenMeasure[] {
  const rows = [shareMeasure('accuracy', task, share(outcomes.map((outcome) => outcome.correct)))]
  const normalised = outcomes.flatMap((outcome) => outcome.correctPerCharacter ?? [])
  return normalised.length === 0 ? rows : [...rows, shareMeasure('accuracy per character', task, share(normalised))]
}

/** The share of true values. Its error is the sample's standard deviation (with n - 1) divided by the square root of n. */
export function share(values: readonly boolean[]): Share {
  const questions = values.length
  const value = values.filter(Boolean).length / questions
  const error = questions > 1 ? Math.sqrt((value * (1 - value)) / (questions - 1)) : undefined
  return { value, error, questions }
}

/** Combines several shares into one: the mean weighted by size, with the error from the pooled variance. */
export function pool(shares: Share[]): Share {
  const questions = sum(shares.map((part) => part.questions))
  const value = sum(shares.map((part) => part.value * part.questions)) / questions
  const squares = sum(shares.map((part) => (part.questions - 1) * part.questions * (part.error ?? 0) ** 2))
  const freedom = questions - shares.length
  return { value, error: freedom > 0 ? Math.sqrt(squares / freedom / questions) : undefined, questions }
}

/** A share as the measure of a data set. */
export function shareMeasure(name: MeasureName, dataset: string, { value, error }: Share): TakenMeasure {
  return { name, dataset, value, unit: 'share', ...(error === undefined ? {} : { error }) }
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
