import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { preflightRequests } from '#engine/tasks/preflight.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { makeValidModel, sizes, writeModelFiles } from '../checkpoint/valid-model.ts'

const folder = mkdtempSync(join(tmpdir(), 'espalier-retired-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('a request of an earlier version computes, and its notes say what was ignored', async () => {
  await writeModelFiles(folder, makeValidModel())
  const source = join(folder, 'ids.json')
  writeFileSync(source, JSON.stringify(Array.from({ length: 64 }, (_, i) => (i * 37) % sizes.vocabulary)))
  const request = {
    model: folder,
    method: 'blockpruner',
    amount: { blocks: 1 },
    seed: 0,
    measures: [],
    calibration: { source, sequenceLength: 16 },
  }
  const host = { steps: { get: async () => undefined, put: async () => {}, folder }, emit: () => {}, signal: new AbortController().signal }
  const now = await executeRun({ ...request, options: {}, backend: 'auto' }, host)
  const earlier = await executeRun({ ...request, options: { screening: 1 }, backend: 'webgpu' }, host)
  expect(earlier.plan).toEqual(now.plan)
  expect(earlier.options).toEqual(now.options)
  expect(earlier.notes.filter((note) => !now.notes.includes(note))).toEqual([
    expect.stringMatching(/^The WebGPU backend was removed/),
    expect.stringMatching(/^BlockPruner.*: the option "screening" was removed and is ignored/),
  ])
})

test('a request for a removed method is refused before it computes, and the sentence names another method', async () => {
  const request = {
    model: folder,
    method: '2ssp_fit',
    amount: { sparsity: 0.3 },
    options: { windows: 8 },
    seed: 0,
    measures: [],
    backend: 'auto' as const,
    calibration: { source: join(folder, 'ids.json'), sequenceLength: 16 },
  }
  const refused = expect.objectContaining({ field: 'method', message: expect.stringMatching(/was removed.* choose gates/) })
  expect((await preflightRequests([request]))[0]?.problems).toContainEqual(refused)
})
