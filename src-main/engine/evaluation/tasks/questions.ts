import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile, HubFile } from '#contract/models/hub-file.ts'
import type { TaskId } from '#contract/titles.ts'
import { listDataFiles } from '#engine/data/data-folder.ts'
import { readRows, rowEndings } from '#engine/data/rows.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { tasks } from './index.ts'
import type { Question, Task } from './task.ts'

export interface QuestionSource {
  /** Folder with one folder per task (`winogrande`, `arc_easy`, …) in the published columns; without it the hub is asked. */
  folder?: string
  fetchFile?: FetchHubFile
}

/** The questions of a task, the first `limit` of each of its subjects. */
export function readQuestions(id: TaskId, source: QuestionSource, limit = Number.POSITIVE_INFINITY): Promise<Question[]> {
  return underLimits(`The file of questions for ${tasks[id].title}`, () => readAllQuestions(id, source, limit))
}

async function readAllQuestions(id: TaskId, source: QuestionSource, limit: number): Promise<Question[]> {
  const task = tasks[id]
  const questions: Question[] = []
  const taken = new Map<string | undefined, number>()
  for (const file of await locateQuestions(id, source)) {
    let number = 0
    for await (const row of readRows(file)) {
      number += 1
      const question = task.ask(row, `Row ${number} of ${file}`)
      const count = taken.get(question.subject) ?? 0
      if (count >= limit) continue
      taken.set(question.subject, count + 1)
      questions.push(question)
    }
  }
  if (questions.length > 0) return questions
  throw new EspalierError('invalid', `${task.title} has no questions in ${source.folder ?? task.file.path}.`)
}

/** Reads one question of each file, to know that a task's questions are there and can be read. Throws as `readQuestions` does. */
export async function checkQuestions(id: TaskId, folder: string): Promise<void> {
  const files = await locateQuestions(id, { folder })
  if (files.length === 0) throw new EspalierError('invalid', `${tasks[id].title} has no questions in ${folder}.`)
  for (const file of files) {
    for await (const row of readRows(file)) {
      tasks[id].ask(row, `Row 1 of ${file}`)
      break
    }
  }
}

async function locateQuestions(id: TaskId, { folder, fetchFile }: QuestionSource): Promise<string[]> {
  const task: Task = tasks[id]
  if (folder !== undefined) return listQuestionFiles(join(folder, id), task)
  if (fetchFile) return [await fetchQuestions(id, task, fetchFile)]
  throw new EspalierError('usage', `${task.title} needs a folder with its questions or the hub, and was given neither.`)
}

async function fetchQuestions(id: TaskId, task: Task, fetchFile: FetchHubFile): Promise<string> {
  try {
    return await fetchFile(task.file)
  } catch (thrown) {
    if (!(thrown instanceof EspalierError) || thrown.code !== 'unreachable') throw thrown
    throw new EspalierError(thrown.code, `${thrown.message} ${questionFile(id).advice}`, thrown.details)
  }
}

/** The file of the hub that a task's questions are, and what to do where it cannot be fetched. */
export function questionFile(id: TaskId): { file: HubFile; advice: string } {
  const { file } = tasks[id]
  return { file, advice: `Or put the file as ${join(id, file.path.split('/').at(-1) as string)} into a folder and give that folder.` }
}

/** The files of the task's split: named after it where the folder holds several splits; folders inside count too. */
async function listQuestionFiles(folder: string, task: Task): Promise<string[]> {
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
  const splitFolder = entries.find((entry) => entry.isDirectory() && entry.name === task.split)
  if (splitFolder) return listQuestionFiles(join(folder, splitFolder.name), task)
  const files = entries.filter((entry) => !entry.isDirectory() && isQuestionFile(entry.name)).map((entry) => entry.name)
  const ofSplit = files.filter((name) => name.toLowerCase().split(/[-_.]/).includes(task.split))
  const inside = await Promise.all(
    entries.filter((entry) => entry.isDirectory()).map((entry) => listQuestionFiles(join(folder, entry.name), task)),
  )
  return [...(ofSplit.length > 0 ? ofSplit : files).map((name) => join(folder, name)), ...inside.flat()]
}

function isQuestionFile(name: string): boolean {
  return (
    rowEndings.includes(name.toLowerCase().replace(/\.gz$/, '').split('.').at(-1) ?? '') && !/^(dataset_info|dataset_dict|state)/.test(name)
  )
}
