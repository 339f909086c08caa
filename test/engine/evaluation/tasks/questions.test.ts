import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import type { QuestionRows } from '#engine/evaluation/tasks/index.ts'
import { readRowsOf } from '#engine/evaluation/tasks/questions.ts'
import { writtenTasks } from '#engine/evaluation/written/index.ts'
import type { WrittenTask } from '#engine/evaluation/written/written-task.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const home = scratchFolder('questions')

const gsm8k: WrittenTask = writtenTasks.gsm8k

/** The files that questions and examples are read from, in a folder that has `files`. */
async function filesRead(name: string, files: readonly string[]): Promise<{ questions: unknown[]; examples: unknown[] }> {
  for (const file of files) {
    const path = join(home, name, 'gsm8k', file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, JSON.stringify({ file }))
  }
  const read = async (rows: QuestionRows) =>
    (await Array.fromAsync(readRowsOf('gsm8k', rows, { folder: join(home, name) }))).map(({ row }) => row.file)
  return { questions: await read(gsm8k), examples: await read(gsm8k.examples as QuestionRows) }
}

test('of a clone with two configurations, the task’s own is read', async () => {
  const configurations = ['main', 'socratic'].flatMap((name) => ['test', 'train'].map((split) => `${name}/${split}-00000-of-00001.jsonl`))
  expect(await filesRead('clone', configurations)).toEqual({
    questions: ['main/test-00000-of-00001.jsonl'],
    examples: ['main/train-00000-of-00001.jsonl'],
  })
})

test('a folder named after one split gives nothing to another', async () => {
  const beside = ['train.jsonl', 'test/0000.jsonl']
  expect(await filesRead('beside', beside)).toEqual({ questions: ['test/0000.jsonl'], examples: ['train.jsonl'] })
  const parts = ['part-test/0000.jsonl', 'part-train/0000.jsonl']
  expect(await filesRead('parts', parts)).toEqual({ questions: parts.slice(0, 1), examples: parts.slice(1) })
})
