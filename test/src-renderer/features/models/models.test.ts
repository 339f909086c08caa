import { expect, test } from 'vitest'
import type { Preset } from '#contract/experiments/experiments.ts'
import type { ModelEntry, Transfer } from '#contract/models/models.ts'
import {
  choosePreset,
  fitText,
  measuredAs,
  measuringText,
  mlpText,
  parseHubName,
  replaceById,
  transferText,
} from '../../../../src-renderer/features/models/models.ts'

test('hub names are read with a revision or from an address, and nothing else', () => {
  expect(parseHubName('owner/name')).toEqual({ name: 'owner/name' })
  expect(parseHubName('owner/name@refs/pr/1')).toEqual({ name: 'owner/name', revision: 'refs/pr/1' })
  expect(parseHubName('https://hub.example/owner/name/')).toEqual({ name: 'owner/name' })
  for (const text of ['', 'name', 'a/b/c', 'owner/na me']) expect(parseHubName(text), text).toBeNull()
})

test('the measurement of a begin token says how much of the model it has read, and then how far it is', () => {
  const transfer = { status: 'running', doneBytes: 0, totalBytes: null } as Transfer
  expect([null, transfer].map(measuringText)).toEqual(['Measuring …', 'Measuring …'])
  expect(measuringText({ ...transfer, doneBytes: 499, totalBytes: 1000 })).toBe('Reading 49 %')
  expect(measuringText({ ...transfer, doneBytes: 1000, totalBytes: 1000, turns: { done: 30, total: 60 } })).toBe('Measuring 50 %')
})

test('a model fits where its weights fit in memory as float32', () => {
  expect(fitText(135_000_000, 540_000_000)).toBe('Fits this machine: its weights need 540 MB, 540 MB of memory is free.')
  expect(fitText(7_000_000_000, 8e9)).toMatch(/^Its weights need 28 GB, but 8 GB of memory is free\. .*streamed/)
})

test('the first start takes the quick look wherever it is in the list', () => {
  const preset = (id: string) => ({ id }) as Preset
  expect(choosePreset([preset('paper-table'), preset('quick-look')]).id).toBe('quick-look')
  expect(() => choosePreset([])).toThrow('no ready experiment')
})

test('an entry that changed keeps its place, a new one goes last', () => {
  expect(
    replaceById(
      [
        { id: 'a', n: 1 },
        { id: 'b', n: 1 },
      ],
      { id: 'a', n: 2 },
    ),
  ).toEqual([
    { id: 'a', n: 2 },
    { id: 'b', n: 1 },
  ])
  expect(replaceById([{ id: 'a' }], { id: 'c' })).toHaveLength(2)
})

test('a model with experts says how many and how wide, also where some blocks are dense, hold fewer or lost their MLP', () => {
  const block = (intermediate: number, experts?: number) => ({ intermediate, experts }) as ModelEntry['description']['blocks'][number]
  expect(mlpText({ blocks: [block(128), block(128), block(0)] })).toBe('MLP 128')
  expect(mlpText({ blocks: [block(0)] })).toBe('no MLPs')
  expect(mlpText({ blocks: [block(24, 8), block(24, 8), block(0)] })).toBe('8 experts of 24 neurons')
  expect(mlpText({ blocks: [block(128), block(96), block(0), block(24, 8), block(24, 6)] })).toBe(
    '6 to 8 experts of 24 neurons, MLP 96 to 128 in 2 of 5 blocks',
  )
})

test('a saved model says what its perplexity was measured on, if that is not plainly its file', () => {
  const entry = (weights: string | null, unpacked: boolean) =>
    measuredAs({ pruned: { method: '2ssp', reached: 0.5, perplexity: null, weights }, description: { unpacked } as never })
  expect(entry('Q8_0', true)).toBe(', measured as Q8_0')
  expect(entry('MIXED:380000000', true)).toBe(', measured as mixed types (380 MB)')
  expect(entry('Q8_0', false)).toBe(', measured as Q8_0')
  expect(entry(null, true)).toBe(', measured before it was quantised')
  expect(entry(null, false)).toBe('')
})

test('a transfer says how far it is, and a measurement counts turns, never bytes', () => {
  const transfer = { problem: null, doneBytes: 0, totalBytes: null, bytesPerSecond: null, secondsLeft: null } as unknown as Transfer
  expect(transferText(transfer)).toBe('')
  expect(transferText({ ...transfer, turns: { done: 3, total: 8 } })).toBe('turn 3 of 8')
  expect(transferText({ ...transfer, doneBytes: 1e6, totalBytes: 2e6, secondsLeft: 3 })).toBe('1 MB of 2 MB · 3.0 s left')
})
