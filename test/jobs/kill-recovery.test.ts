import { copyFileSync, cpSync, mkdtempSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunDetail } from '#contract/runs/runs.ts'
import { connect } from '#db/database.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { otherModel } from '../fixtures/other-model.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { type Opened, openedWorkbench, runEnded } from '../services/opened.ts'
import { expectIntact, forgetSteps, processesOf } from './kill-checks.ts'

const text = { source: join(import.meta.dirname, '..', 'fixtures', 'reference', 'calibration-windows.json'), sequenceLength: 256 }

async function startRecovery({ call, model }: Opened): Promise<string> {
  const request = {
    method: '2ssp',
    amount: { sparsity: 0.5 },
    options: { windows: 2 },
    seed: 0,
    calibration: { ...text, windows: 2 },
    recover: { amount: { tokens: 60 * 256 }, text },
    measures: [],
    backend: 'auto' as const,
  }
  return (await call('runs.create', { model: model.id, request })).id
}

/** Kills the compute process after this many measurements during training. */
async function killBehind({ call, folder }: Opened, id: string, points: number): Promise<void> {
  await eventually(async () => (await call('runs.get', { id })).recoveryPoints.length > points, `${points} measurements`)
  const word = defaultComputeCommand().at(-1) as string
  for (const pid of processesOf(process.pid, word)) process.kill(pid, 'SIGKILL')
  await eventually(async () => (await call('runs.get', { id })).status === 'interrupted', 'the notice of the kill')
  expectIntact(folder)
}

/** Resumes a run whose process was killed. */
async function resume({ call }: Opened, id: string): Promise<RunDetail> {
  if ((await call('queue.get', {})).devices[0]?.status === 'broken') await call('queue.resume', {})
  await call('runs.resume', { ids: [id] })
  return runEnded({ call }, id)
}

/** Plans name the hashes of their tensors. */
const hashesOf = ({ plan }: RunDetail) => plan?.tensors?.map(({ sha256 }) => sha256)

const pointsOf = ({ recovery }: RunDetail) => recovery?.points ?? []

/** How many trainings of a history were started; a resumed one does not measure its start again. */
function beginnings(folder: string): unknown {
  const db = connect(join(folder, 'history.sqlite'))
  try {
    return db.prepare(`SELECT count(*) FROM run_events WHERE type = 'recovery' AND json_extract(event, '$.point.step') = 0`).pluck().get()
  } finally {
    db.close()
  }
}

/** An undisturbed training, which the first test makes for both: the model of the second is a copy. */
let known: RunDetail | undefined

test.skipIf(process.platform !== 'linux')(
  'a training killed twice with SIGKILL continues from its last measurement and ends with the same bits',
  async () => {
    const workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') })
    const { call, folder } = workbench
    await call('settings.update', { resumeRuns: false })
    const whole = await runEnded(workbench, await startRecovery(workbench))
    expect(whole.problem).toBeNull()
    expect(whole.plan?.finalNorm).toBe('replaced')
    known = whole
    forgetSteps(folder)
    const id = await startRecovery(workbench)
    for (const points of [1, 3]) {
      await killBehind(workbench, id, points)
      if ((await call('queue.get', {})).devices[0]?.status === 'broken') await call('queue.resume', {})
      await call('runs.resume', { ids: [id] })
    }
    const again = await runEnded(workbench, id)
    expect(again.problem).toBeNull()
    expect(hashesOf(again)).toEqual(hashesOf(whole))
    expect(pointsOf(again)).toEqual(pointsOf(whole))
    await workbench.close()
    expect(beginnings(folder)).toBe(2)
    await rm(folder, { recursive: true, force: true })
  },
  300_000,
)

test.skipIf(process.platform !== 'linux')(
  'a killed training whose model is away fails and says so; when it is back it ends as if undisturbed; a replaced model is trained from its start',
  async () => {
    const home = mkdtempSync(join(tmpdir(), 'espalier-away-'))
    const [model, other, away] = ['model', 'other', 'away'].map((name) => join(home, name)) as [string, string, string]
    const reference = await referenceModel('stories260k')
    cpSync(reference, model, { recursive: true })
    otherModel(reference, other)
    const weights = 'model.safetensors'
    const workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: model })
    const fresh = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: other })
    await workbench.call('settings.update', { resumeRuns: false })
    const whole = known ?? (await runEnded(workbench, await startRecovery(workbench)))
    const ofOther = await runEnded(fresh, await startRecovery(fresh))
    expect([whole.problem, ofOther.problem]).toEqual([null, null])
    forgetSteps(workbench.folder)

    const id = await startRecovery(workbench)
    await killBehind(workbench, id, 1)
    renameSync(join(model, weights), away)
    expect(await resume(workbench, id)).toMatchObject({
      status: 'failed',
      problem: { code: 'not-found', message: expect.stringContaining(weights) },
    })
    renameSync(away, join(model, weights))
    await workbench.call('runs.retry', { ids: [id] })
    expect(hashesOf(await runEnded(workbench, id))).toEqual(hashesOf(whole))
    forgetSteps(workbench.folder)

    const replaced = await startRecovery(workbench)
    await killBehind(workbench, replaced, 1)
    copyFileSync(join(other, weights), away)
    renameSync(away, join(model, weights))
    const again = await resume(workbench, replaced)
    expect([again.problem, again.fingerprint]).toEqual([null, ofOther.fingerprint])
    expect(hashesOf(again)).toEqual(hashesOf(ofOther))
    expect(pointsOf(again)).toEqual(pointsOf(ofOther))
    await Promise.all([workbench, fresh].map((one) => one.close()))
    for (const folder of [home, workbench.folder, fresh.folder]) await rm(folder, { recursive: true, force: true })
  },
  600_000,
)
