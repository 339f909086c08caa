import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectWorkbench } from '#server/client.ts'
import { findAgain, goThrough } from './scenario.ts'
import { endProgram, killPrograms, startProgram } from './started.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'espalier-scenario-'))
})
afterAll(async () => {
  killPrograms()
  await rm(folder, { recursive: true })
})

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
