import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { simulatedGpu } from '../../src-main/setup/simulated-gpu.mjs'
import { skippedBecause } from '../engine/backend/every-device/devices.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { type Opened, openedWorkbench, runEnded } from '../services/opened.ts'
import { expectIntact } from './kill-checks.ts'

const fixtures = join(import.meta.dirname, '..', 'fixtures')
const hasCompiler = () => spawnSync('cc', ['--version']).status === 0
const reason = skippedBecause('ggml-vulkan') ?? (hasCompiler() ? undefined : 'there is no C compiler')

describe.skipIf(reason !== undefined)(`a GPU that is lost${reason ? ` (does not run: ${reason})` : ''}`, () => {
  let folder: string
  let lost: string
  let workbench: Opened
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'espalier-lost-'))
    lost = join(folder, 'lost')
    const [driver, description] = [join(folder, 'driver.so'), join(folder, 'driver.json')]
    const built = spawnSync('cc', ['-shared', '-fPIC', '-o', driver, join(fixtures, 'lost-gpu.c'), '-ldl'], { encoding: 'utf8' })
    expect(built.stderr).toBe('')
    writeFileSync(description, JSON.stringify({ file_format_version: '1.0.1', ICD: { library_path: driver, api_version: '1.3.0' } }))
    writeFileSync(lost, '')
    const settings = { ...simulatedGpu(), VK_DRIVER_FILES: description, ESPALIER_TEST_LOST: lost }
    for (const [name, value] of Object.entries(settings)) vi.stubEnv(name, value)
    workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') })
  })
  afterAll(async () => {
    await workbench[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true, force: true })
    vi.unstubAllEnvs()
  })

  test('ends the run with an error that says so, the history is whole, and the run can be resumed', async () => {
    const calibration = { source: join(fixtures, 'reference', 'calibration-windows.json'), sequenceLength: 256, windows: 1 }
    const amount = { blocks: 1 }
    const request = { method: 'shortgpt', amount, options: {}, seed: 0, calibration, measures: [], backend: 'ggml-gpu' as const }
    const { id } = await workbench.call('runs.create', { model: workbench.model.id, request })
    const problem = { message: expect.stringMatching(/^The GPU was lost: it was removed, or its driver was restarted\. Run again/) }
    expect(await runEnded(workbench, id)).toMatchObject({ status: 'interrupted', problem })
    expect(existsSync(lost)).toBe(false)
    expectIntact(workbench.folder)
    await workbench.call('runs.resume', { ids: [id] })
    expect(await runEnded(workbench, id)).toMatchObject({ status: 'done', problem: null, environment: { backend: 'ggml-gpu' } })
  })
})
