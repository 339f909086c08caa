import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { ApiEvent } from '#contract/api.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { type History, openHistory } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { RunRecorder } from '#jobs/run-recorder.ts'
import { insertRun } from '../db/rows.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'

function recording(): Disposable & { history: History; number: number; reported: Progress[]; recorder: RunRecorder } {
  const folder = scratchOfTest('progress')
  const history = openHistory(folder)
  const { id, number } = insertRun(history, { status: 'running' })
  const reported: Progress[] = []
  const listen = ({ name, data }: ApiEvent) => {
    if (name === 'run event' && data.recorded.event.type === 'progress') reported.push(data.recorded.event.progress)
  }
  return {
    history,
    number,
    reported,
    recorder: new RunRecorder(history, history.runs.find(id) as RunRow, listen),
    [Symbol.dispose]() {
      history.close()
    },
  }
}

const progressOf = (phase: string, done: number, total: number) => ({ type: 'progress', progress: { phase, done, total, unit: 'texts' } })
const kept = (history: History, number: number) => history.runs.entries([number])[0]?.progress

test('the first event of a phase is reported and kept even right after the last event of the phase before', () => {
  using run = recording()
  run.recorder.event(progressOf('stage 1', 110, 2048))
  run.recorder.event(progressOf('stage 2', 0, 12))
  expect(run.reported).toMatchObject([{ phase: 'stage 1' }, { phase: 'stage 2', done: 0 }])
  expect(kept(run.history, run.number)).toMatchObject({ phase: 'stage 2', done: 0 })
  run.recorder.drop()
})

test('the last of several quick events is reported when nothing follows, and those between are not', async () => {
  using run = recording()
  for (const done of [1, 2, 3, 4]) run.recorder.event(progressOf('stage 1', done, 9))
  expect(run.reported.map(({ done }) => done)).toEqual([1])
  await expect.poll(() => run.reported.length).toBeGreaterThan(1)
  expect(run.reported.map(({ done }) => done)).toEqual([1, 4])
  run.recorder.drop()
})

test('a run that fails keeps the last progress that it had', () => {
  using run = recording()
  for (const done of [1, 2, 3]) run.recorder.event(progressOf('stage 1', done, 9))
  run.recorder.fail({ code: 'internal', message: 'It died.', advice: null }, 'failed', {
    platform: 'test',
    node: 'test',
    device: null,
    memoryBytes: null,
  })
  expect(run.reported.at(-1)).toMatchObject({ done: 3 })
  expect(kept(run.history, run.number)).toMatchObject({ done: 3 })
})

test('a run that was given up reports nothing more', async () => {
  using run = recording()
  for (const done of [1, 2]) run.recorder.event(progressOf('stage 1', done, 9))
  run.recorder.drop()
  await pause(250)
  expect(run.reported.map(({ done }) => done)).toEqual([1])
})
