import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { DataRequest } from '#contract/data/data-request.ts'
import { hashOf, readData } from '#engine/data/read-data.ts'
import { openSpec } from '#engine/model/model.ts'
import { withoutOverlap } from '#engine/pruning/recovery/recover.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { hostIn } from '../../fixtures/run-host.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('recovered')

test('a run trains on nothing that it repaired or measures on', async () => {
  const path = await referenceModel('stories260k')
  const source = join(folder, 'ids.json')
  writeFileSync(source, JSON.stringify((await referenceWindows('calibration')).flatMap((window) => [...window])))
  const text = (sequenceLength: number, windows?: number): DataRequest => ({ source, sequenceLength, ...(windows ? { windows } : {}) })
  const [calibration, evaluation] = [text(96, 12), text(112, 14)]
  const { recovery, repair, notes } = await executeRun(
    {
      model: path,
      method: '2ssp',
      amount: { sparsity: 0.3 },
      options: { windows: 2 },
      seed: 0,
      calibration: text(64, 2),
      repair: { kind: 'one-pass', calibration },
      recover: { amount: { tokens: 32 * 64 }, text: text(64) },
      measures: [{ kind: 'perplexity', data: evaluation, name: 'text' }],
      backend: 'auto',
    },
    hostIn(folder),
  )
  const { spec, checkpoint } = await openSpec(path)
  await checkpoint.close()
  const read = async (data: DataRequest) => (await readData({ spec }, undefined, data, 0, {})).windows
  const expected = withoutOverlap(await read(text(64)), [...(await read(calibration)), ...(await read(evaluation))]).slice(0, 32)
  expect(expected[0]).not.toEqual((await read(text(64, 1)))[0])
  expect(recovery?.text).toMatchObject({ windows: 32, hash: hashOf(expected) })
  expect(repair?.windows).toBe(12)
  expect(notes.join(' ')).toContain('Windows that share text with measures, the held-out text or the repair were not trained on')
})

test('a run trains on nothing that it continues or measures by position', async () => {
  const path = await referenceModel('stories260k')
  const source = join(folder, 'ids.json')
  const text = (sequenceLength: number, windows?: number): DataRequest => ({ source, sequenceLength, ...(windows ? { windows } : {}) })
  const [prompts, long] = [text(32, 3), text(300, 4)]
  const { recovery } = await executeRun(
    {
      model: path,
      method: '2ssp',
      amount: { sparsity: 0.3 },
      options: { windows: 2 },
      seed: 0,
      calibration: text(64, 2),
      recover: { amount: { tokens: 32 * 64 }, text: text(64) },
      measures: [
        { kind: 'repetition', data: prompts, name: 'text', tokens: 4 },
        { kind: 'long context', data: long, name: 'text' },
      ],
      backend: 'auto',
    },
    hostIn(folder),
  )
  const { spec, checkpoint } = await openSpec(path)
  await checkpoint.close()
  const read = async (data: DataRequest) => (await readData({ spec }, undefined, data, 0, {})).windows
  const [all, continued, byPosition] = [await read(text(64)), await read(prompts), await read(long)]
  const expected = withoutOverlap(all, [...continued, ...byPosition]).slice(0, 32)
  expect(recovery?.text).toMatchObject({ windows: 32, hash: hashOf(expected) })
  // Each measure alone already takes windows away.
  for (const own of [continued, byPosition]) expect(withoutOverlap(all, own).length).toBeLessThan(all.length)
})

test('a run trains on text that its dense model writes, in its share, and nothing else reads such text', async () => {
  const source = join(folder, 'ids.json')
  const mix = [
    { source, share: 0.5 },
    { source: 'self-written', share: 0.5 },
  ]
  const request = {
    model: await referenceModel('stories260k'),
    method: '2ssp',
    amount: { sparsity: 0.3 },
    options: { windows: 2 },
    seed: 0,
    calibration: { source, sequenceLength: 64, windows: 2 },
    recover: { amount: { tokens: 32 * 64 }, text: { source: 'both', sequenceLength: 64, mix } },
    measures: [],
    backend: 'auto' as const,
  }
  const { recovery } = await executeRun(request, hostIn(folder))
  expect(recovery?.text.parts?.map((part) => [part.source, part.windows])).toEqual([
    [source, 16],
    ['self-written', 16],
  ])
  const wrong = { ...request, calibration: { source: 'self-written', sequenceLength: 64, windows: 2 } }
  await expect(executeRun(wrong, hostIn(folder))).rejects.toThrow('Only a recovery trains on "self-written" text')
})
