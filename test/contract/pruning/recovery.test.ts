import { expect, test } from 'vitest'
import { defaultRecoveryData, recoveryTitle } from '#contract/pruning/recovery.ts'

test('a recovery trains on the calibration text and the mixed one, half each, in short windows', () => {
  const data = defaultRecoveryData({ source: '/a/valid.txt', sequenceLength: 2048, windows: 32 })
  expect(data).toEqual({
    source: '/a/valid.txt:0.5,mixed:0.5',
    sequenceLength: 512,
    mix: [
      { source: '/a/valid.txt', share: 0.5 },
      { source: 'mixed', share: 0.5 },
    ],
  })
})

test.each(['mixed', '/opt/resources/sample-model/calibration.txt'])('%s is taken alone', (source) => {
  expect(defaultRecoveryData({ source, sequenceLength: 256 })).toEqual({ source, sequenceLength: 256 })
})

test('a run is called by the length of its recovery', () => {
  expect(recoveryTitle({ tokens: 262_144 })).toBe('recovered with 262,144 tokens')
  expect(recoveryTitle({ minutes: 10 })).toBe('recovered for 10 min')
})
