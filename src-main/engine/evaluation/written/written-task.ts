import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import type { MeasureName } from '#contract/runs/measures.ts'
import type { Row } from '#engine/data/rows.ts'
import type { QuestionRows } from '#engine/evaluation/tasks/index.ts'

/** A question and, in an example, its answer. The last turn of a prompt has no answer. */
export interface Turn {
  readonly asked: string
  readonly answer?: string
}

/** Whether an answer is right by each of several rules. A rule may judge several parts of an answer. */
export type Judged = Readonly<Partial<Record<MeasureName, boolean | readonly boolean[]>>>

/** A task whose answers are written by the model and checked by a program. */
export interface WrittenTask extends QuestionRows {
  /** The split that examples before a prompt are drawn from, and their number. */
  readonly examples?: QuestionRows & { readonly count: number }
  /** The maximum number of tokens in an answer. */
  readonly tokens: number
  /** Texts that end an answer. */
  readonly stops: readonly string[]
  /** Turns a row into a question, or returns why its answer cannot be checked. Throws `invalid` naming `where`. */
  read(row: Row, where: string): WrittenQuestion | LeftOut
}

export interface LeftOut {
  /** Why the prompt is left out, as an object of "have": `instructions that ...`. */
  readonly leftOut: string
}

export interface WrittenQuestion extends Required<Turn> {
  judge(answer: string): Judged
}

/** Reads a row. Throws an error that names `where` and what is wrong with it. */
export function readColumns<Document>(columns: z.ZodType<Document>, row: Row, title: string, where: string): Document {
  const parsed = readWith(columns, row)
  if (parsed.success) return parsed.data
  const [issue] = explainIssues(parsed.error, row)
  throw new EspalierError('invalid', `${where} is not a valid ${title} question: ${issue?.message}`)
}
