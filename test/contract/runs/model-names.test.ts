import { expect, test } from 'vitest'
import { hasSeveralModels, modelNames, withModelNames } from '#contract/runs/model-names.ts'

const run = (model: string, fingerprint: string | null, createdAt: number) => ({
  model: { id: model, name: model },
  fingerprint,
  createdAt,
})

test('runs of a model before its files were replaced are of an older version, and several versions are numbered', () => {
  const names = (...runs: ReturnType<typeof run>[]) => runs.map(modelNames(runs))
  // Used last counts, not listed last.
  expect(names(run('tiny', 'new', 3), run('tiny', 'old', 1), run('tiny', 'old', 2), run('other', 'x', 1))).toEqual([
    'tiny',
    'tiny (older)',
    'tiny (older)',
    'other',
  ])
  expect(names(run('tiny', 'second', 2), run('tiny', 'first', 1), run('tiny', 'third', 3))).toEqual([
    'tiny (older 2)',
    'tiny (older 1)',
    'tiny',
  ])
  // A run that waits has no content yet.
  expect(names(run('tiny', 'old', 1), run('tiny', null, 2))).toEqual(['tiny', 'tiny'])
})

test('a replaced model counts as two models', () => {
  expect(hasSeveralModels([run('tiny', 'old', 1), run('tiny', null, 2)])).toBe(false)
  expect(hasSeveralModels([run('tiny', 'old', 1), run('tiny', 'new', 2)])).toBe(true)
  expect(hasSeveralModels([run('tiny', 'old', 1), run('other', 'old', 2)])).toBe(true)
  const runs = [run('tiny', 'old', 1), run('tiny', 'new', 2)]
  const named = withModelNames(runs)
  expect([named[0]?.model, named[1] === runs[1]]).toEqual([{ id: 'tiny', name: 'tiny (older)' }, true])
})
