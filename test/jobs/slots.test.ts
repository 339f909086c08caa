import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { expect, test } from 'vitest'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { openWorkbench } from '#services/workbench.ts'
import { eventually } from '../eventually.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { fakeCompute, type Opened, oneRun, openedWorkbench, outcomesOf, runEnded } from '../services/opened.ts'
import { processesOf } from './kill-checks.ts'

const windows = (name: string, count: number) => ({
  source: join(import.meta.dirname, '..', 'fixtures', 'reference', `${name}-windows.json`),
  sequenceLength: 256,
  windows: count,
})

const pruning = ({ call, model }: Opened, seed: number) =>
  call('runs.create', {
    model: model.id,
    request: {
      method: '2ssp',
      amount: { sparsity: 0.4 },
      options: {},
      seed,
      calibration: windows('calibration', 16),
      measures: [{ kind: 'perplexity', data: windows('test', 8), name: 'test' }],
      backend: 'auto',
    },
  })

/** Creates runs while the queue is paused, then resumes it: all runs that find a slot have then started, however short they are. */
async function atOnce(workbench: Opened, make: readonly (() => Promise<{ id: string }>)[]): Promise<{ id: string }[]> {
  await workbench.call('queue.pause', {})
  const runs = []
  for (const one of make) runs.push(await one())
  const { runs: queued } = await workbench.call('queue.resume', {})
  expect(queued.map(({ status }) => status)).toEqual(make.map(() => 'running'))
  return runs
}

test('two slots of the processor compute two runs at once, with the results of one slot', async () => {
  await using workbench = await openedWorkbench({
    devices: undefined,
    computeCommand: defaultComputeCommand(),
    modelPath: await referenceModel('stories260k'),
  })
  const [first] = [await runEnded(workbench, (await pruning(workbench, 0)).id)]
  await workbench.call('settings.update', { cpuSlots: 2 })
  await eventually(async () => (await workbench.call('queue.get', {})).devices.length === 2, 'two slots')
  const both = await atOnce(workbench, [() => pruning(workbench, 0), () => pruning(workbench, 0)])
  const ended = await Promise.all(both.map(({ id }) => runEnded(workbench, id)))
  for (const run of ended) {
    expect(run).toMatchObject({ status: 'done', plan: first.plan, decisions: first.decisions })
    expect(outcomesOf(run)).toEqual(outcomesOf(first))
  }
  expect(new Set(ended.map(({ device }) => device))).toHaveLength(2)
})

test.skipIf(process.platform !== 'linux')('a run whose process is killed on one slot does not touch the run on the other', async () => {
  await using workbench = await openedWorkbench({ devices: undefined })
  await workbench.call('settings.update', { cpuSlots: 2 })
  const alone = await runEnded(workbench, (await oneRun(workbench, { rounds: 40, stepMilliseconds: 15 }, 3)).id)
  const [spared, killed] = await atOnce(workbench, [
    () => oneRun(workbench, { rounds: 40, stepMilliseconds: 15 }, 3),
    () => oneRun(workbench, { rounds: 40, stepMilliseconds: 15, at: 20, does: 'abort' }, 3),
  ])
  expect((await runEnded(workbench, killed?.id as string)).status).toBe('interrupted')
  expect(await runEnded(workbench, spared?.id as string)).toMatchObject({ status: 'done', attempts: 1, plan: alone.plan })
  expect(processesOf(process.pid, fakeCompute[1]).length).toBeGreaterThan(0)
})

test.skipIf(process.platform === 'win32')('of two GPUs each run sees one, and no two runs the same', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-two-gpus-'))
  writeFileSync(join(folder, 'nvidia-smi'), '#!/bin/sh\nprintf "0, GPU-aaaa, One\\n1, GPU-bbbb, Two\\n"\n')
  chmodSync(join(folder, 'nvidia-smi'), 0o755)
  const path = process.env.PATH
  process.env.PATH = `${folder}${delimiter}${path}`
  try {
    await using workbench = await openedWorkbench({ devices: undefined })
    expect((await workbench.call('queue.get', {})).devices.map(({ id, title }) => [id, title])).toEqual([
      ['gpu-0', 'One'],
      ['gpu-1', 'Two'],
    ])
    const runs = await atOnce(workbench, [() => oneRun(workbench), () => oneRun(workbench)])
    const seen = await Promise.all(
      runs.map(async ({ id }) => {
        const { status } = await runEnded(workbench, id)
        return [status, /sees (.*)/.exec((await workbench.call('runs.log', { id })).text)?.[1]]
      }),
    )
    expect(seen.sort()).toEqual([
      ['done', '0'],
      ['done', '1'],
    ])
  } finally {
    process.env.PATH = path
    rmSync(folder, { recursive: true, force: true })
  }
})

test('slots that are set are kept for the next start', async () => {
  const workbench = await openedWorkbench({ devices: undefined })
  await workbench.call('settings.update', { cpuSlots: 3 })
  await workbench.close()
  const again = await openWorkbench({ folder: workbench.folder, computeCommand: fakeCompute, bundledModel: null })
  expect((await again.call('queue.get', {})).devices).toHaveLength(3)
  await again.close()
  rmSync(workbench.folder, { recursive: true, force: true })
})
