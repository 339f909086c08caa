import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { canMakeDisks, SmallDisk } from '../fixtures/small-disk.ts'
import { type Opened, openedWorkbench, runEnded } from './opened.ts'

const home = scratchFolder('full')
const disk = join(home, 'disk')
mkdirSync(disk)
const small = canMakeDisks ? new SmallDisk(disk, 64 * 1024) : undefined
afterAll(() => small?.[Symbol.dispose]())

const formats = ['exact', 'stock', 'gguf']

async function prunedRun({ call, model }: Opened): Promise<string> {
  const calibration = {
    source: join(import.meta.dirname, '..', 'fixtures', 'reference', 'calibration-windows.json'),
    sequenceLength: 64,
    windows: 2,
  }
  const request = {
    method: 'shortgpt',
    amount: { blocks: 1 },
    options: { windows: 2 },
    seed: 0,
    calibration,
    measures: [],
    backend: 'auto' as const,
  }
  return (await call('runs.create', { model: model.id, request })).id
}

async function saveOf({ call }: Opened, id: string) {
  const { id: saving } = await call('runs.save', { id, formats, ggufTypes: ['F32'], folder: join(disk, 'smaller') })
  return eventually(
    async () => (await call('transfers.list', {})).find((transfer) => transfer.id === saving && transfer.status !== 'running'),
    'the end of the save',
    60_000,
  )
}

test.skipIf(!small)(
  'a disk that fills up during a save leaves nothing there, and the run, which is saved when there is space',
  async () => {
    await using workbench = await openedWorkbench({
      computeCommand: defaultComputeCommand(),
      modelPath: await referenceModel('stories260k'),
      writable: [disk],
    })
    const { call } = workbench
    const id = await prunedRun(workbench)
    const run = await runEnded(workbench, id)
    expect(run).toMatchObject({ status: 'done', problem: null })
    const outlines = (await call('runs.formats', { id })).formats
    const weights = outlines
      .filter(({ format, type }) => formats.includes(format) && (type === null || type === 'F32'))
      .reduce((sum, { bytes }) => sum + (bytes ?? 0), 0)
    // Room for the announced bytes, but not for the files besides the weights.
    small?.resize(Math.ceil(weights / 4096 + 2) * 4096)
    const failed = await saveOf(workbench, id)
    expect(failed).toMatchObject({ status: 'failed', model: null })
    expect(failed.problem).toBe(
      `${join(disk, 'smaller')} could not be written: the disk is full. Free some space or choose another disk. Nothing was changed there.`,
    )
    expect(readdirSync(disk)).toEqual([])
    expect((await call('runs.get', { id })).plan).toEqual(run.plan)
    small?.resize(64 * 2 ** 20)
    expect(await saveOf(workbench, id)).toMatchObject({ status: 'done', problem: null })
    expect(readdirSync(join(disk, 'smaller')).sort()).toEqual(['exact', 'gguf', 'stock'])
  },
  90_000,
)

test.skipIf(small || process.platform === 'win32')(
  'a limit on the size of files ends a save with a sentence and leaves nothing',
  async () => {
    const [node = '', ...args] = defaultComputeCommand()
    await using workbench = await openedWorkbench({
      computeCommand: ['/bin/sh', '-c', 'ulimit -f 400; exec "$0" "$@"', node, ...args],
      modelPath: await referenceModel('stories260k'),
      writable: [disk],
    })
    const id = await prunedRun(workbench)
    const run = await runEnded(workbench, id)
    expect(run).toMatchObject({ status: 'done', problem: null })
    const failed = await saveOf(workbench, id)
    expect(failed).toMatchObject({ status: 'failed', model: null })
    expect(failed.problem).toMatch(/smaller could not be written: .*no file that large.*Nothing was changed there/)
    expect(readdirSync(disk)).toEqual([])
    expect((await workbench.call('runs.get', { id })).plan).toEqual(run.plan)
  },
  90_000,
)
