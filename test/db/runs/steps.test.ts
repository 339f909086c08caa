import { beforeEach, expect, test } from 'vitest'
import { type History, openHistory } from '#db/history.ts'
import { nameStep } from '#engine/steps/step-name.ts'
import { RunRecorder } from '#jobs/run-recorder.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { insertRun } from '../rows.ts'

let folder: string
beforeEach(() => {
  folder = scratchOfTest('steps')
})

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
