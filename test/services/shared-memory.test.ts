import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openBytes } from '#engine/estimate/memory.ts'
import { memoryOfRequest } from '#engine/tasks/check-request.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { processorDevice } from '#jobs/this-machine.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { timedMachine } from '../e2e/timed-machine.ts'
import { eventually } from '../eventually.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { heldRun, oneRun, openedWorkbench, runEnded } from './opened.ts'

test('a run and the playground that do not fit in memory together wait for each other in turn, and say so', async () => {
  const folder = scratchOfTest('test')
  await timedMachine(folder)
  await using workbench = await openedWorkbench({ folder, computeCommand: defaultComputeCommand(), modelPath: sampleModelFolder })
  const { call, model } = workbench
  // Room for each of the two, but not for both.
  const memoryBytes = 1e9
  await call('settings.update', { memoryBytes })

  const waitOf = async (id: string) => (await call('queue.get', {})).memoryWaits.find((one) => one.id === id)?.text
  const request = {
    method: 'evopress',
    amount: { sparsity: 0.25 },
    options: { generations: 2000 },
    seed: 0,
    calibration: { source: join(sampleModelFolder, 'calibration.txt'), windows: 8, sequenceLength: 128 },
    measures: [],
    backend: 'auto' as const,
  }
  const startRun = (name: string) => call('runs.create', { model: model.id, name, request })
  const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`
  const ofTalk = megabytes(await openBytes(sampleModelFolder))
  const ofRun = megabytes(await memoryOfRequest({ ...request, model: sampleModelFolder, memoryBytes }))
  const startSession = () =>
    call('playground.start', {
      columns: [{ model: model.id }],
      prompts: Array.from({ length: 100 }, () => ({ text: 'Once upon a time' })),
      settings: { maxTokens: 200 },
    })
  const statusOf = async (id: string) => (await call('transcripts.get', { id })).status

  const talk = await startSession()
  await eventually(() => workbench.events.some(({ name }) => name === 'generation'), 'the first word')
  const first = await startRun('First')
  expect(await eventually(() => waitOf(first.id), 'the run to wait')).toBe(
    `Waiting for ${ofRun} of memory: the playground holds ${ofTalk}.`,
  )
  await call('runs.cancel', { ids: [first.id] })
  expect((await call('runs.get', { id: first.id })).status).toBe('cancelled')
  await eventually(async () => (await call('queue.get', {})).devices[0]?.status === 'idle', 'the free device', 1000)

  const second = await startRun('Second')
  await eventually(() => waitOf(second.id), 'the second run to wait')
  await call('playground.stop', { id: talk.id })
  await eventually(async () => (await call('runs.get', { id: second.id })).progress, 'the run to go ahead without the idle model')

  const later = await startSession()
  expect(await eventually(() => waitOf(later.id), 'the playground to wait')).toBe(
    `Waiting for ${ofTalk} of memory: the run Second holds ${ofRun}.`,
  )
  await call('playground.stop', { id: later.id })
  await eventually(async () => (await statusOf(later.id)) === 'stopped', 'the stopped answer', 1000)
  expect((await call('runs.get', { id: second.id })).status).toBe('running')
  await call('runs.cancel', { ids: [second.id] })
})

test('the seconds of a run are those in which it worked, without its wait for memory', async () => {
  const other = { ...processorDevice(), id: 'cpu 2' }
  await using workbench = await openedWorkbench({ devices: [processorDevice(), other] })
  const { call } = workbench
  await call('settings.update', { memoryBytes: 10e9 })
  const { options, letGo } = heldRun(workbench)
  const first = await oneRun(workbench, { ...options, claims: 8e9 })
  await eventually(async () => (await call('runs.get', { id: first.id })).decisions.length >= 3, 'the first run to hold its memory')
  const second = await oneRun(workbench, { rounds: 1, claims: 5e9 }, 1)
  const waits = async () => (await call('queue.get', {})).memoryWaits.some(({ id }) => id === second.id)
  await eventually(waits, 'the second run to wait')
  await pause(1000)
  letGo()
  const { seconds, startedAt, endedAt } = await runEnded(workbench, second.id)
  const whole = ((endedAt ?? Number.NaN) - (startedAt ?? Number.NaN)) / 1000
  expect(whole - (seconds ?? Number.NaN)).toBeGreaterThan(0.9)
})
