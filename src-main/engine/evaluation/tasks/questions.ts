import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { endingOf } from '#contract/data/text-endings.ts'
import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile, HubFile } from '#contract/models/hub-file.ts'
import type { TaskId, WrittenTaskId } from '#contract/titles.ts'
import { listDataFiles } from '#engine/data/data-folder.ts'
import { type Row, readRows, rowEndings } from '#engine/data/rows.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { isWrittenTaskId, writtenTasks } from '../written/index.ts'
import type { WrittenTask } from '../written/written-task.ts'
import type { Question, QuestionRows } from './index.ts'
import { tasks } from './index.ts'

export interface QuestionSource {
  /** Folder with one folder per task (`winogrande`, `arc_easy`, …) in the published columns. Without it, the hub is used. */
  folder?: string
  fetchFile?: FetchHubFile
}

/** Reads the questions of a task: the first `limit` of each of its subjects. */
export function readQuestions(id: TaskId, source: QuestionSource, limit = Number.POSITIVE_INFINITY): Promise<Question[]> {
  return underLimits(`The file of questions for ${tasks[id].title}`, () => readAllQuestions(id, source, limit))
}

async function readAllQuestions(id: TaskId, source: QuestionSource, limit: number): Promise<Question[]> {
  const task = tasks[id]
  const questions: Question[] = []
  const taken = new Map<string | undefined, number>()
  for await (const { row, where } of readRowsOf(id, task, source)) {
    const question = task.ask(row, where)
    const count = taken.get(question.subject) ?? 0
    if (count >= limit) continue
    taken.set(question.subject, count + 1)
    questions.push(question)
  }
  if (questions.length > 0) return questions
  throw new EspalierError('invalid', `${task.title} has no questions in ${source.folder ?? task.file.path}.`)
}

/** Yields the rows of a task's files, each with its location for errors (`Row 3 of FILE`). */
export async function* readRowsOf(id: string, rows: QuestionRows, source: QuestionSource): AsyncGenerator<{ row: Row; where: string }> {
  for (const file of await locateQuestions(id, rows, source)) {
    let number = 0
    for await (const row of readRows(file)) yield { row, where: `Row ${++number} of ${file}` }
  }
}

/** Reads one question of each file to check that a task's questions exist and are readable. Throws as `readQuestions` does. */
export async function checkQuestions(id: TaskId | WrittenTaskId, folder: string): Promise<void> {
  for (const rows of rowsOf(id)) {
    const files = await locateQuestions(id, rows, { folder })
    if (files.length === 0) throw new EspalierError('invalid', noQuestions(rows, folder))
    for (const file of files) {
      for await (const row of readRows(file)) {
        rows.check(row, `Row 1 of ${file}`)
        break
      }
    }
  }
}

export function noQuestions({ title, split }: QuestionRows, folder: string): string {
  return `${title} has no questions of its split "${split}" in ${folder}.`
}

/** The splits that a task reads: its questions and, if it has any, the examples before them. */
function rowsOf(id: TaskId | WrittenTaskId): (QuestionRows & { check(row: Row, where: string): unknown })[] {
  if (!isWrittenTaskId(id)) return [{ ...tasks[id], check: tasks[id].ask }]
  const task: WrittenTask = writtenTasks[id]
  return [task, ...(task.examples ? [task.examples] : [])].map((rows) => ({ ...rows, check: task.read }))
}

async function locateQuestions(id: string, rows: QuestionRows, { folder, fetchFile }: QuestionSource): Promise<string[]> {
  if (folder !== undefined) return listQuestionFiles(join(folder, id), rows)
  if (fetchFile) return [await fetchQuestions(id, rows, fetchFile)]
  throw new EspalierError('usage', `${rows.title} needs a folder with its questions or the hub. Neither was given.`)
}

async function fetchQuestions(id: string, { file }: QuestionRows, fetchFile: FetchHubFile): Promise<string> {
  try {
    return await fetchFile(file)
  } catch (thrown) {
    if (!(thrown instanceof EspalierError) || thrown.code !== 'unreachable') throw thrown
    throw new EspalierError(thrown.code, `${thrown.message} ${adviceFor(id, file)}`, thrown.details)
  }
}

/** The hub files of a task, and advice for when they cannot be downloaded. */
export function questionFiles(id: TaskId | WrittenTaskId): { file: HubFile; advice: string }[] {
  return rowsOf(id).map(({ file }) => ({ file, advice: adviceFor(id, file) }))
}

const adviceFor = (id: string, file: HubFile): string =>
  `Or put the file as ${join(id, file.path.split('/').at(-1) as string)} into a folder and give that folder.`

/**
 * Lists the files of a split: the files in a folder named after the split, or the files whose names contain it. Without either, lists all
 * files that are not in folders of other splits.
 */
async function listQuestionFiles(folder: string, task: QuestionRows): Promise<string[]> {
  const found = await stat(folder).catch(() => undefined)
  if (!found?.isDirectory()) {
    const name = task.file.path.split('/').at(-1)
    throw new EspalierError(
      'not-found',
      `There are no ${task.title} questions at ${folder}. Put ${name} of ${task.file.repository} (or JSONL with the same columns) there.`,
    )
  }
  if (existsSync(join(folder, 'state.json'))) return listDataFiles(folder, rowEndings)
  const entries = (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  const files = entries.filter((entry) => !entry.isDirectory() && isQuestionFile(entry.name)).map(({ name }) => name)
  // A clone of a data set may hold several configurations, of which the task uses one.
  const own = [task.split, task.file.path.split('/')[0]].find((name) => name !== undefined && folders.includes(name))
  if (own !== undefined) return listQuestionFiles(join(folder, own), task)
  const ofSplit = files.filter((name) => isOf(name, task.split))
  if (ofSplit.length > 0) return ofSplit.map((name) => join(folder, name))
  // Examples must not be taken from the test split, where a question could be its own example.
  const unnamed = task.split === 'train' ? files.filter((name) => !isOf(name, 'test')) : files
  const others = splits.filter((split) => split !== task.split)
  const open = folders.filter((name) => !others.some((split) => isOf(name, split)))
  const inside = await Promise.all(open.map((name) => listQuestionFiles(join(folder, name), task)))
  return [...unnamed.map((name) => join(folder, name)), ...inside.flat()]
}

const splits = ['train', 'validation', 'test']
const isOf = (name: string, split: string): boolean => name.toLowerCase().split(/[-_.]/).includes(split)

function isQuestionFile(name: string): boolean {
  return rowEndings.includes(endingOf(name)) && !/^(dataset_info|dataset_dict|state)/.test(name)
}
