import { expect, test } from 'vitest'
import { waitingFirst } from './waiting-first.ts'

const own = (path: string) => ({ path, shares: false })
const sharing = (path: string) => ({ path, shares: true })

test('files that wait come first and files that share processes last, and each folder keeps its order', () => {
  expect(
    waitingFirst([
      sharing('test/contract/titles.test.ts'),
      own('test/engine/tensor/at.test.ts'),
      sharing('test/engine/pruning/methods/2ssp.test.ts'),
      own('test/engine/pruning/every-method.test.ts'),
      own('test/e2e/truth.test.ts'),
      own('test/setup/tools.test.ts'),
      own('test/e2e/journey.test.ts'),
      own('test/jobs/kill.test.ts'),
    ]),
  ).toEqual([
    own('test/e2e/truth.test.ts'),
    own('test/e2e/journey.test.ts'),
    own('test/jobs/kill.test.ts'),
    own('test/engine/pruning/every-method.test.ts'),
    own('test/engine/tensor/at.test.ts'),
    own('test/setup/tools.test.ts'),
    sharing('test/engine/pruning/methods/2ssp.test.ts'),
    sharing('test/contract/titles.test.ts'),
  ])
})
