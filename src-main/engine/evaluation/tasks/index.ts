import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import { type TaskId, taskTitles } from '#contract/titles.ts'
import type { Row } from '#engine/data/rows.ts'
import { capitalize, countCodePoints, strip } from './python-text.ts'

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

interface Task {
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
const choiceNumber = z.union([z.number().int(), z.string().regex(/^\d+$/, 'not a number').transform(Number)])
/** A label, as text or as a number. */
const choiceLabel = z.union([z.string(), z.number().transform(String)])

/** Makes a task from its columns and a rule that turns a row into a question. */
function defineTask<Document>(definition: Definition<Document>): Task {
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
function askChoices(context: string, choices: string[], gold: number): Question {
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

/** A split of a published data set, read from the hub or from local files. */
export interface QuestionRows {
  readonly title: string
  readonly file: HubFile
  readonly split: string
}

const subjects = {
  stem: `
    abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science college_mathematics college_physics
    computer_security conceptual_physics electrical_engineering elementary_mathematics high_school_biology high_school_chemistry
    high_school_computer_science high_school_mathematics high_school_physics high_school_statistics machine_learning`,
  other: `
    business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing medical_genetics miscellaneous
    nutrition professional_accounting professional_medicine virology`,
  social_sciences: `
    econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics high_school_microeconomics
    high_school_psychology human_sexuality professional_psychology public_relations security_studies sociology us_foreign_policy`,
  humanities: `
    formal_logic high_school_european_history high_school_us_history high_school_world_history international_law jurisprudence
    logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law world_religions`,
} as const

type Group = keyof typeof subjects

/** The group of each of MMLU's 57 subjects, as in lm-evaluation-harness (where anatomy belongs to stem). */
export const mmluGroups: Readonly<Record<string, Group>> = Object.fromEntries(
  (Object.keys(subjects) as Group[]).flatMap((group) =>
    subjects[group]
      .trim()
      .split(/\s+/)
      .map((subject) => [subject, group]),
  ),
)

const columns = z.object({
  question: z.string(),
  choices: z.object({ text: z.array(z.string()).min(1), label: z.array(choiceLabel) }),
  answerKey: choiceLabel,
})

const shared = {
  split: 'test' as const,
  repository: 'allenai/ai2_arc',
  revision: '210d026faf9955653af8916fad021475a3f00453',
  columns,
  // Three to five choices; labels are letters or digits.
  ask({ question, choices, answerKey }: z.infer<typeof columns>) {
    const gold = choices.label.indexOf(answerKey)
    return { ...askChoices(`Question: ${question}\nAnswer:`, choices.text, gold), lengths: choices.text.map(countCodePoints) }
  },
}

/** ARC (arXiv 1803.05457): the questions that simple methods can answer. */
const arcEasy = defineTask({ ...shared, title: taskTitles.arc_easy, path: 'ARC-Easy/test-00000-of-00001.parquet' })

/** ARC (arXiv 1803.05457): the questions that simple methods cannot answer. */
const arcChallenge = defineTask({
  ...shared,
  title: taskTitles.arc_challenge,
  path: 'ARC-Challenge/test-00000-of-00001.parquet',
})

/** HellaSwag (arXiv 1905.07830): which ending continues the scene. */
const hellaswag = defineTask({
  title: taskTitles.hellaswag,
  split: 'validation',
  repository: 'Rowan/hellaswag',
  revision: '218ec52e09a7e7462a5400043bb9a69a41d06b76',
  path: 'data/validation-00000-of-00001.parquet',
  columns: z.object({
    activity_label: z.string(),
    ctx_a: z.string(),
    ctx_b: z.string(),
    endings: z.array(z.string()).min(1),
    label: choiceNumber,
  }),
  ask({ activity_label, ctx_a, ctx_b, endings, label }) {
    const choices = endings.map(clean)
    const context = clean(`${activity_label}: ${ctx_a} ${capitalize(ctx_b)}`)
    return { ...askChoices(context, choices, label), lengths: choices.map(countCodePoints) }
  },
})

/** Removes WikiHow's markup. The result is not stripped again, because in the harness spaces left at the ends count as characters. */
function clean(text: string): string {
  return strip(text)
    .replaceAll(' [title]', '. ')
    .replace(/\[[^\n]*?\]/g, '')
    .replaceAll('  ', ' ')
}

const letters = ['A', 'B', 'C', 'D']

/** MMLU (arXiv 2009.03300): the prompt has four choices, and their letters are scored. */
const mmlu = defineTask({
  title: taskTitles.mmlu,
  split: 'test',
  repository: 'cais/mmlu',
  revision: 'c30699e8356da336a370243923dbaf21066bb9fe',
  path: 'all/test-00000-of-00001.parquet',
  columns: z.object({
    question: z.string(),
    subject: z.string().refine((subject) => subject in mmluGroups, 'not one of the 57 subjects'),
    choices: z.array(z.string()).length(4),
    answer: choiceNumber,
  }),
  ask({ question, subject, choices, answer }) {
    const head = `The following are multiple choice questions (with answers) about ${subject.replaceAll('_', ' ')}.\n\n`
    const list = choices.map((choice, index) => `${letters[index]}. ${choice}\n`).join('')
    return { ...askChoices(`${head}${strip(question)}\n${list}Answer:`, letters, answer), subject }
  },
})

/** PIQA (arXiv 1911.11641): which of two ways reaches a goal. */
const piqa = defineTask({
  title: taskTitles.piqa,
  split: 'validation',
  repository: 'baber/piqa',
  revision: '142f6d7367fd9877f0fb3b5734ea6a545f54cdd1',
  path: 'piqa_validation.parquet',
  columns: z.object({ goal: z.string(), sol1: z.string(), sol2: z.string(), label: choiceNumber }),
  ask({ goal, sol1, sol2, label }) {
    const choices = [sol1, sol2]
    return { ...askChoices(`Question: ${goal}\nAnswer:`, choices, label), lengths: choices.map(countCodePoints) }
  },
})

/** WinoGrande (arXiv 1907.10641), partial evaluation: each option fills the gap, and the text after the gap is scored. */
const winogrande = defineTask({
  title: taskTitles.winogrande,
  split: 'validation',
  repository: 'allenai/winogrande',
  revision: '01e74176c63542e6b0bcb004dcdea22d94fb67b5',
  path: 'winogrande_xl/validation-00000-of-00001.parquet',
  columns: z.object({ sentence: z.string().includes('_'), option1: z.string(), option2: z.string(), answer: choiceLabel }),
  ask({ sentence, option1, option2, answer }) {
    const gap = sentence.indexOf('_')
    // The harness adds the space even before punctuation.
    const continuations = [` ${strip(sentence.slice(gap + 1))}`]
    const requests = [option1, option2].map((option) => ({ context: sentence.slice(0, gap) + option, continuations }))
    return { requests, gold: ['1', '2'].indexOf(answer) }
  },
})

/** The zero-shot tasks, by their names in lm-evaluation-harness. */
export const tasks = {
  winogrande,
  arc_easy: arcEasy,
  arc_challenge: arcChallenge,
  hellaswag,
  piqa,
  mmlu,
} as const satisfies Record<TaskId, Task>

export const taskIds = Object.keys(tasks) as TaskId[]

export function isTaskId(name: string): name is TaskId {
  return Object.hasOwn(tasks, name)
}
