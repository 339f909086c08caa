import { expect, test } from 'vitest'
import type { ModelEntry } from '#contract/models/models.ts'
import { offeredMethods } from '../../../../../src-renderer/features/new-experiment/methods/offered-methods.ts'

const known = [{ id: '2ssp' }, { id: 'reap' }]
const model = (id: string, most: number) =>
  ({ id, description: { feasible: [{ method: 'reap', minimum: 0, maximum: most }] } }) as unknown as ModelEntry
const models = [model('dense', 0), model('mixture', 0.4)]
const idsFor = (chosen: string[], methods: string[] = []) =>
  offeredMethods(known, models, { models: chosen, methods: methods.map((method, key) => ({ key, method, options: {} })) }).map(
    ({ id }) => id,
  )

test('a method that removes nothing of any chosen model is not offered, unless it is chosen already', () => {
  expect(idsFor(['dense'])).toEqual(['2ssp'])
  expect(idsFor(['dense'], ['reap'])).toEqual(['2ssp', 'reap'])
  expect(idsFor(['dense', 'mixture'])).toEqual(['2ssp', 'reap'])
})

test('every method is offered before a model is chosen', () => {
  expect(idsFor([])).toEqual(['2ssp', 'reap'])
})
