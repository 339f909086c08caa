import { afterAll, expect, test } from 'vitest'
import { connectWorkbench } from '#server/client.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { findAgain, goThrough } from './scenario.ts'
import { endProgram, killPrograms, startProgram } from './started.ts'

const folder = scratchFolder('scenario')
afterAll(() => killPrograms())

test('over HTTP: an experiment is made, watched, compared, talked to, and found again after a restart', { timeout: 300_000 }, async () => {
  const first = await startProgram(folder)
  const before = await connectWorkbench(first)
  const seen = await goThrough(before)
  await before.close()
  expect(await endProgram(first, 'SIGTERM')).toBe(0)
  const second = await startProgram(folder)
  const after = await connectWorkbench(second)
  await findAgain(after, seen)
  await after.close()
  await endProgram(second, 'SIGTERM')
})
