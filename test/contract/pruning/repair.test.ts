import { expect, test } from 'vitest'
import { defaultRepairData } from '#contract/pruning/repair.ts'

const shares = (data: ReturnType<typeof defaultRepairData>) => data.mix?.map(({ source, share }) => [source, share])

test('a repair is fitted on the calibration text, and a quarter of the mixed one', () => {
  const data = defaultRepairData({ source: '/a/valid.txt', sequenceLength: 512, windows: 32 })
  expect(shares(data)).toEqual([
    ['/a/valid.txt', 0.75],
    ['mixed', 0.25],
  ])
  expect(data).toMatchObject({ source: '/a/valid.txt:0.75,mixed:0.25', sequenceLength: 512, windows: 96 })
})

test('several calibration texts keep their shares of the three quarters', () => {
  const mix = [
    { source: 'a.txt', share: 2 },
    { source: 'b.txt', share: 1 },
  ]
  expect(shares(defaultRepairData({ source: 'a.txt:2,b.txt:1', mix, sequenceLength: 256 }))).toEqual([
    ['a.txt', 0.5],
    ['b.txt', 0.25],
    ['mixed', 0.25],
  ])
})

test.each([
  ['the mixed text is taken alone', { source: 'mixed', sequenceLength: 256 }],
  ['the sample model’s own text is taken alone', { source: '/opt/resources/sample-model/calibration.txt', sequenceLength: 256 }],
  [
    'a mix that holds the mixed text is used unchanged',
    {
      source: 'a.txt:1,mixed:1',
      sequenceLength: 256,
      mix: [
        { source: 'a.txt', share: 1 },
        { source: 'mixed', share: 1 },
      ],
    },
  ],
])('%s', (_, calibration) => {
  expect(defaultRepairData(calibration)).toEqual({ ...calibration, windows: 96 })
})
