import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { Field, Int64, List, Struct, Table, tableToIPC, Utf8, vectorFromArray } from 'apache-arrow'
import { beforeEach, expect, test } from 'vitest'
import { readRows } from '#engine/data/rows.ts'
import { readQuestions } from '#engine/evaluation/tasks/questions.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

let folder: string
beforeEach(() => {
  folder = scratchOfTest('rows')
})

const rows = [
  { question: 'q', choices: { text: ['a', 'b'], label: ['A', 'B'] }, answer: 1 },
  { question: 'é', choices: { text: [], label: [] }, answer: 0 },
]

function write(name: string, bytes: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}

const read = (path: string) => Array.fromAsync(readRows(path))

test('JSON lines, gzipped lines and a JSON array give the same rows', async () => {
  const lines = rows.map((row) => JSON.stringify(row)).join('\n')
  expect(await read(write('a.jsonl', lines))).toEqual(rows)
  expect(await read(write('a.json.gz', gzipSync(lines)))).toEqual(rows)
  expect(await read(write('a.json', JSON.stringify(rows)))).toEqual(rows)
  await expect(read(write('b.jsonl', '{"a":1}\n[2]'))).rejects.toThrow(/Row 2 of .*b\.jsonl is an array of 1/)
  await expect(read(write('b.csv', 'a,b'))).rejects.toThrow(/\.csv.*Use one of \.jsonl/)
})

test('an Arrow file gives lists, structs and 64-bit numbers as plain values', async () => {
  const texts = new List(new Field('item', new Utf8()))
  const struct = new Struct([new Field('text', texts), new Field('label', texts)])
  const table = new Table({
    question: vectorFromArray(
      rows.map((row) => row.question),
      new Utf8(),
    ),
    choices: vectorFromArray(
      rows.map((row) => row.choices),
      struct,
    ),
    answer: vectorFromArray(
      rows.map((row) => BigInt(row.answer)),
      new Int64(),
    ),
  })
  expect(await read(write('a.arrow', tableToIPC(table, 'stream')))).toEqual(rows)
})

// Written by the Python library's engine: a struct of lists, int64, dictionary-encoded and compressed pages, two row groups.
test('Parquet as the data sets are published gives ARC and MMLU questions', async () => {
  const fixtures = join(import.meta.dirname, '../../fixtures/questions')
  const arc = await readQuestions('arc_easy', { folder: fixtures })
  expect(arc.map((question) => [question.gold, question.lengths])).toEqual([
    [1, [1, 2, 3]],
    [0, [2, 1]],
    [4, [1, 1, 1, 1, 2]],
  ])
  const mmlu = await readQuestions('mmlu', { folder: fixtures })
  expect(mmlu.map((question) => [question.subject, question.gold])).toEqual([
    ['anatomy', 3],
    ['virology', 0],
  ])
})
