import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { connect } from '#db/database.ts'
import { type History, historyFolders, openHistory } from '#db/history.ts'
import { migrate } from '#db/migrate.ts'
import { migrations } from '#db/migrations/index.ts'
import { nameStep } from '#engine/steps/step-name.ts'
import { RunRecorder } from '#jobs/run-recorder.ts'
import { insertRun } from '../rows.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'espalier-steps-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const base = { model: 'a', backend: 'tensorflow-cpu', precision: 'float32' }
const norms = nameStep({ kind: { version: 1 }, label: 'norms', on: { windows: [Int32Array.of(1, 2)] } }, base)
const time = nameStep({ kind: { version: 1, reach: 'own' }, label: 'time', on: null }, base)

function recorderOf(history: History) {
  const { id } = insertRun(history)
  const row = history.runs.find(id)
  if (!row) throw new Error('no row')
  return { ...row, recorder: new RunRecorder(history, row, () => undefined) }
}

test('any run finds a step by its name, also after the run that did it is deleted; times belong to their run', () => {
  const history = openHistory(folder)
  const [first, second] = [recorderOf(history), recorderOf(history)]
  first.recorder.putStep(norms, { value: [1, 2], seconds: 3 })
  first.recorder.putStep(time, { value: 5, seconds: 0 })
  expect(second.recorder.getStep(norms)).toEqual({ value: { value: [1, 2], seconds: 3, run: first.id }, own: false })
  expect(second.recorder.getStep(time)).toBeUndefined()
  expect(first.recorder.getStep(time)?.own).toBe(true)
  history.steps.clear(first.id)
  expect(second.recorder.getStep(norms)?.value).toMatchObject({ value: [1, 2] })
  expect(history.steps.count(second.id)).toBe(1)
  history.close()
})

test('steps that were named by paths are found by no run: shared ones are deleted at once, others with their run', () => {
  const { file } = historyFolders(folder)
  mkdirSync(dirname(file), { recursive: true })
  const old = connect(file)
  migrate(old, migrations.slice(0, 10))
  const insert = old.prepare('INSERT INTO steps(scope, name, value, bytes, at) VALUES (?, ?, ?, 2, 1)')
  insert.run('exp-1/model-1', 'shared:/a|hash: neuron norms, 32 windows', '{}')
  insert.run('run-1', 'measure 0, with its data: perplexity', '{}')
  insert.run('run-1', 'page 0', '{"value":"tokens"}')
  old.close()
  const history = openHistory(folder)
  expect(history.db.prepare('SELECT run, name FROM steps ORDER BY name').all()).toEqual([
    { run: 'run-1', name: 'measure 0, with its data: perplexity' },
    { run: 'run-1', name: 'page 0' },
  ])
  const label = 'measure 0, with its data: perplexity'
  expect(recorderOf(history).recorder.getStep(nameStep({ kind: { version: 1 }, label, on: null }, base))).toBeUndefined()
  // Comparison pages of earlier versions are still shown.
  expect(history.steps.named('run-1', 'page 0')).toBe('page 0')
  expect(history.steps.clear('run-1')).toBe(2)
  history.close()
})
