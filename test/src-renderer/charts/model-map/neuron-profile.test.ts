import { expect, test } from 'vitest'
import { neuronProfile, profileArea } from '../../../../src-renderer/charts/model-map/neuron-profile.ts'

test('scores are sorted and the cut falls at the last kept neuron', () => {
  const profile = neuronProfile([1, 4, 3, 2], 3, 10)
  expect(profile).toEqual({ values: [4, 3, 2, 1], cutAt: 0.5, kept: 2, total: 4 })
})

test('many neurons are thinned to what can be drawn, ends included', () => {
  const { values } = neuronProfile(
    Array.from({ length: 18_944 }, (_, at) => at),
    0,
    160,
  )
  expect(values).toHaveLength(160)
  expect(values[0]).toBe(18_943)
  expect(values.at(-1)).toBe(0)
})

test('an empty block draws nothing instead of NaN', () => {
  expect(profileArea(neuronProfile([], 0, 10), 0, 1, 100, 40, 1)).toBe('')
  expect(profileArea(neuronProfile([2, 1], 0, 10), 0, 1, 100, 40, 2)).toBe('M0.0 40L0.0 0.0L100.0 20.0L100.0 40Z')
})
