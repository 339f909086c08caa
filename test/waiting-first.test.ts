import { expect, test } from 'vitest'
import { waitingFirst } from './waiting-first.ts'

test('files that wait come before files that compute, and each folder keeps its order', () => {
  expect(
    waitingFirst([
      'test/contract/titles.test.ts',
      'test/engine/tensor/at.test.ts',
      'test/engine/pruning/every-method.test.ts',
      'test/e2e/truth.test.ts',
      'test/e2e/journey.test.ts',
      'test/jobs/kill.test.ts',
    ]),
  ).toEqual([
    'test/e2e/truth.test.ts',
    'test/e2e/journey.test.ts',
    'test/jobs/kill.test.ts',
    'test/engine/pruning/every-method.test.ts',
    'test/engine/tensor/at.test.ts',
    'test/contract/titles.test.ts',
  ])
})
