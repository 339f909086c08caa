import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunDetail } from '#contract/runs/runs.ts'
import { connect } from '#db/database.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { type Opened, openedWorkbench, runEnded } from '../services/opened.ts'
import { expectIntact, forgetSteps, processesOf } from './watching.ts'

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

test.skipIf(process.platform !== 'linux')(
  'a training killed twice with SIGKILL continues from its last measurement and ends with the same bits',
  async () => {
    const workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') })
    const { call, folder } = workbench
    const whole = await runEnded(workbench, await startRecovery(workbench))
    expect(whole.problem).toBeNull()
    expect(whole.plan?.finalNorm).toBe('replaced')
    forgetSteps(folder)
    const id = await startRecovery(workbench)
    for (const points of [1, 3]) {
      await killBehind(workbench, id, points)
      if ((await call('queue.get', {})).devices[0]?.status === 'broken') await call('queue.resume', {})
      await call('runs.resume', { ids: [id] })
    }
    const again = await runEnded(workbench, id)
    expect(again.problem).toBeNull()
    // Plans name the hashes of their tensors.
    const hashes = ({ plan }: RunDetail) => plan?.tensors?.map(({ sha256 }) => sha256)
    expect(hashes(again)).toEqual(hashes(whole))
    expect(pointsOf(again)).toEqual(pointsOf(whole))
    await workbench.close()
    expect(beginnings(folder)).toBe(2)
    await rm(folder, { recursive: true, force: true })
  },
  300_000,
)
