import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Row } from '#engine/data/rows.ts'

/** A text for the model to continue, and the continuations whose likelihoods are compared. */
export interface Request {
  context: string
  continuations: string[]
}

/** One document of a task as requests. Choices are numbered through all requests in order. */
export interface Question {
  requests: Request[]
  /** Number of the right choice. */
  gold: number
  /** Characters (code points) per choice, by which scores are divided for the normalised accuracy; absent where a task has none. */
  lengths?: number[]
  /** The part of the task that this question belongs to. */
  subject?: string
}

export interface Task {
  title: string
  /** The file of the published split on the hub. */
  file: HubFile
  split: 'validation' | 'test'
  /** Turns a row into a question. Throws `invalid` naming `where` if a column is missing or wrong. */
  ask(row: Row, where: string): Question
}

interface Definition<Document> extends Omit<Task, 'ask' | 'file'> {
  repository: string
  revision: string
  path: string
  columns: z.ZodType<Document>
  ask(document: Document): Question
}

/** The index of a choice, as a number or as a string of digits. */
export const choiceNumber = z.union([z.number().int(), z.string().regex(/^\d+$/, 'not a number').transform(Number)])
/** A label, as text or as a number. */
export const choiceLabel = z.union([z.string(), z.number().transform(String)])

/** Makes a task from its columns and a rule that turns a row into a question. */
export function defineTask<Document>(definition: Definition<Document>): Task {
  const { title, split, repository, revision, path, columns } = definition
  return {
    title,
    split,
    file: { kind: 'dataset', repository, revision, path },
    ask(row, where) {
      const parsed = readWith(columns, row)
      if (parsed.success) return checkGold(definition.ask(parsed.data), where)
      const [issue] = explainIssues(parsed.error, row)
      throw new EspalierError('invalid', `${where} is not a valid ${title} question: ${issue?.message}`)
    },
  }
}

/** A question with one context and several choices, each after one space. */
export function askChoices(context: string, choices: string[], gold: number): Question {
  return { requests: [{ context, continuations: choices.map((choice) => ` ${choice}`) }], gold }
}

function checkGold(question: Question, where: string): Question {
  const choices = question.requests.flatMap((request) => request.continuations).length
  if (question.gold >= 0 && question.gold < choices) return question
  throw new EspalierError(
    'invalid',
    `${where} has no right answer among its ${choices} choices. Use a split that is published with answers.`,
  )
}
