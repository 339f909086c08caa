import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { BackendName } from '#contract/runs/run-request.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { findGgml } from '../../src-main/runtime/ggml.mjs'
import { eventually } from '../eventually.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { type Opened, openedWorkbench, runEnded } from '../services/opened.ts'
import { expectIntact } from './kill-checks.ts'

const fixtures = join(import.meta.dirname, '..', 'fixtures')
const folder = scratchFolder('failing')
const failure = join(folder, 'failure')
let workbench: Opened

beforeAll(async () => {
  vi.stubEnv('ESPALIER_TEST_FAILURE', failure)
  vi.stubEnv('ESPALIER_VULKAN', '1')
  vi.stubEnv('VK_DRIVER_FILES', join(folder, 'driver.json'))
  writeFileSync(
    join(folder, 'driver.json'),
    JSON.stringify({ file_format_version: '1.0.1', ICD: { library_path: failure, api_version: '1.3.0' } }),
  )
  const [node, ...words] = defaultComputeCommand()
  workbench = await openedWorkbench({
    computeCommand: [node, '--import', join(fixtures, 'failing-ggml.ts'), ...words],
    modelPath: await referenceModel('stories260k'),
  })
})
afterAll(async () => {
  await workbench[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
})

/** The seed keeps runs apart; otherwise they would find each other's steps. */
function startRun(seed: number, backend: BackendName = 'ggml', windows = 4): Promise<{ id: string }> {
  const calibration = { source: join(fixtures, 'reference', 'calibration-windows.json'), sequenceLength: 256, windows }
  const request = { method: 'blockpruner', amount: { sparsity: 0.4 }, options: { windows }, seed, calibration, measures: [], backend }
  return workbench.call('runs.create', { model: workbench.model.id, request })
}

describe.each([
  ['lost device', 'failed', /^The device stopped computing \(ggml's status -1\)\. It may have been lost/],
  ['failed check', 'interrupted', /^ggml ended the compute process because one of its checks failed \(ggml\.c:\d+: GGML_ASSERT\(/],
] as const)('ggml with a failure: %s', (how, status, message) => {
  test('ends the run with an error that says so, the history is whole, and the run can be resumed', async () => {
    writeFileSync(failure, how)
    const { id } = await startRun(how.length)
    const ended = await runEnded(workbench, id)
    expect(ended).toMatchObject({ status, problem: { message: expect.stringMatching(message) } })
    expect(existsSync(failure), 'it failed in a graph').toBe(false)
    expectIntact(workbench.folder)
    await workbench.call('runs.resume', { ids: [id] })
    expect(await runEnded(workbench, id)).toMatchObject({ status: 'done', problem: null, environment: { backend: 'ggml-cpu' } })
  })
})

test('a run whose process is killed in a graph is resumed automatically, and the history is whole', async () => {
  writeFileSync(failure, 'killed')
  const { id } = await startRun(9)
  const { problem, status, attempts, environment } = await runEnded(workbench, id)
  expect({ problem, status, attempts }).toEqual({ problem: null, status: 'done', attempts: 2 })
  expect(environment?.backend).toBe('ggml-cpu')
  expect(existsSync(failure), 'it failed in a graph').toBe(false)
  expectIntact(workbench.folder)
})

test('a run on ggml is cancelled, and ends when it is resumed', async () => {
  const { id } = await startRun(1, 'ggml', 16)
  await eventually(async () => (await workbench.call('runs.get', { id })).decisions.length > 0, 'a first decision')
  await workbench.call('runs.cancel', { ids: [id] })
  expect((await runEnded(workbench, id)).status).toBe('cancelled')
  expectIntact(workbench.folder)
  await workbench.call('runs.resume', { ids: [id] })
  expect((await runEnded(workbench, id)).status).toBe('done')
})

test('with a fake driver a run on a GPU fails with what is missing, and one on the CPU works', async () => {
  const { id } = await startRun(2, 'ggml-gpu')
  const reason = findGgml('ggml-vulkan') ? 'It found no Vulkan driver\\..*' : 'The ggml library for Vulkan is not installed\\..*'
  expect(await runEnded(workbench, id)).toMatchObject({
    status: 'failed',
    problem: {
      message: expect.stringMatching(`^ggml finds no GPU\\. ${reason} Or choose another backend\\.`),
    },
  })
  expectIntact(workbench.folder)
  const { id: next } = await startRun(3)
  expect((await runEnded(workbench, next)).status).toBe('done')
})
