import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { SharedSteps } from '#jobs/cluster/shared-steps.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

const timings = { lookMilliseconds: 10, silenceMilliseconds: 200 }
const { signal } = new AbortController()

function temporaryFolder(): string {
  const folder = scratchOfTest('shared')
  return folder
}

function opened(count: number, folder = temporaryFolder()): SharedSteps[] {
  const all = Array.from({ length: count }, () => new SharedSteps(folder, timings))
  onTestFinished(() => all.forEach((one) => void one.close()))
  return all
}

test('the first process to ask computes a step, and the other waits for it', async () => {
  const [first, second] = opened(2) as [SharedSteps, SharedSteps]
  expect(await first.get('norms', signal)).toBeUndefined()
  const waiting = second.get('norms', signal)
  first.put('norms', [1, 2, 3])
  expect(await waiting).toEqual({ value: [1, 2, 3] })
})

test('the step of a silent process is taken over, and both may write it', async () => {
  const folder = temporaryFolder()
  // A claim that is no longer refreshed, such as a killed process leaves.
  const dead = new SharedSteps(folder, { ...timings, silenceMilliseconds: 1e9 })
  expect(await dead.get('norms', signal)).toBeUndefined()
  const [heir] = opened(1, folder) as [SharedSteps]
  expect(await heir.get('norms', signal)).toBeUndefined()
  heir.put('norms', [1])
  dead.put('norms', [1])
  const [third] = opened(1, folder) as [SharedSteps]
  expect(await third.get('norms', signal)).toEqual({ value: [1] })
  dead.close()
})

test('a stored step that was changed is not taken', async () => {
  const folder = temporaryFolder()
  const [first, second] = opened(2, folder) as [SharedSteps, SharedSteps]
  await first.get('norms', signal)
  first.put('norms', { kept: 1 })
  const file = join(folder, readdirSync(folder).find((name) => name.endsWith('.json')) as string)
  writeFileSync(file, readFileSync(file, 'utf8').replace('"kept":1', '"kept":2'))
  expect(await second.get('norms', signal)).toBeUndefined()
})

test('a process that gives up leaves its step to others', async () => {
  const [first, second] = opened(2) as [SharedSteps, SharedSteps]
  expect(await first.get('norms', signal)).toBeUndefined()
  const waiting = second.get('norms', signal)
  first.close()
  expect(await waiting).toBeUndefined()
})

test('waiting ends when the run is cancelled', async () => {
  const [first, second] = opened(2) as [SharedSteps, SharedSteps]
  await first.get('norms', signal)
  const leaving = new AbortController()
  const waiting = second.get('norms', leaving.signal)
  leaving.abort()
  await expect(waiting).rejects.toThrow()
})
