import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { openModel } from '#engine/model/model.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { RunSteps } from '#engine/tasks/run/run-steps.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const folder = scratchFolder('run-steps')
beforeAll(() => openBackend('auto'))

/** A store that several attempts, or several runs, share. */
function hostOf(stored: Map<string, StepResult>, own = true) {
  const get = async (name: string) => {
    const found = stored.get(name)
    return found && { ...found, own }
  }
  const put = async (name: string, value: unknown, tensors?: TensorFile) => {
    stored.set(name, { value, ...(tensors ? { tensors } : {}) })
  }
  return { steps: { get, put, folder }, emit: () => {}, signal: new AbortController().signal }
}

const tensors = () => new Map([['one', { values: Float32Array.of(1), shape: [1] }]])

test('a step that resumed from a state counts the seconds before it, also for an attempt after a second kill', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const stored = new Map<string, StepResult>()
  const attempt = async () => {
    const steps = new RunSteps(hostOf(stored))
    await steps.identify(model, { backend: 'tensorflow', precision: 'float32' })
    return steps
  }
  const step = { kind: { version: 1 }, label: 'training', on: 1 }
  const state = { kind: { version: 1, reach: 'own' as const }, label: 'state', on: 1 }
  const first = await attempt()
  const killed = first.tensorStep(step, async () => {
    await first.putState(state, { value: 1, tensors: tensors() }, 1000)
    throw new Error('killed')
  })
  await expect(killed).rejects.toThrow('killed')
  const second = await attempt()
  await second.tensorStep(step, async () => {
    expect(await second.findState(state)).toMatchObject({ value: 1 })
    return { tensors: tensors() }
  })
  await second.putState(state)
  expect(second.foundSeconds).toBe(1000)
  const third = await attempt()
  await third.tensorStep(step, () => Promise.reject(new Error('It was finished.')))
  expect(third.foundSeconds).toBeGreaterThanOrEqual(1000)
  await model.close()
})

test('a phase within another counts once', async () => {
  const steps = new RunSteps(hostOf(new Map()))
  const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))
  const start = performance.now()
  await steps.time('inference', async () => {
    await steps.time('writing the dense file', () => wait(60))
    await wait(20)
  })
  const whole = (performance.now() - start) / 1000
  const { inference = 0, 'writing the dense file': writing = 0 } = steps.seconds
  expect(writing).toBeGreaterThan(0.05)
  expect(inference).toBeGreaterThan(0.015)
  expect(inference + writing).toBeLessThanOrEqual(whole)
})

test('the seconds of a recovery include those of steps that another run computed', async () => {
  const stored = new Map<string, StepResult>()
  const source = join(import.meta.dirname, '../../../fixtures/reference/calibration-windows.json')
  const text = (windows?: number) => ({ source, sequenceLength: 256, ...(windows ? { windows } : {}) })
  const request = {
    model: await referenceModel('stories260k'),
    method: 'shortgpt',
    amount: { blocks: 1 },
    options: {},
    seed: 0,
    calibration: text(2),
    recover: { amount: { tokens: 8 * 256 }, text: text() },
    measures: [],
    backend: 'auto' as const,
  }
  await executeRun(request, hostOf(stored))
  for (const [name, result] of stored) {
    if (!name.includes('recovery #') || name.includes('state')) continue
    stored.set(name, { ...result, value: { ...(result.value as object), seconds: 1000 } })
  }
  const { recovery, seconds } = await executeRun(request, hostOf(stored, false))
  expect(recovery?.seconds).toBeGreaterThanOrEqual(1000)
  expect(seconds.recovery).toBe(recovery?.seconds)
})
