import { expect, test } from 'vitest'
import { labelOfStep, reachOfStep } from '#contract/runs/step-names.ts'
import { type Dependency, nameStep, type StepBase } from '#engine/steps/step-name.ts'

const base: StepBase = { model: 'a', backend: 'tensorflow-cpu', precision: 'float32' }
const kind = { version: 1 }
const named = (on: Dependency, own: Partial<StepBase> = {}, version = 1) =>
  nameStep({ kind: { version }, label: 'norms', on }, { ...base, ...own })

test('a name differs with everything that it depends on', () => {
  const window = Int32Array.of(1, 2, 3)
  const names = [
    named({ windows: [window], norm: 1 }),
    named({ windows: [window], norm: 2 }),
    named({ windows: [window], norm: '1' }),
    named({ windows: [window], other: 1 }),
    named({ windows: [Int32Array.of(1, 2, 4)], norm: 1 }),
    named({ windows: [Int32Array.of(1), Int32Array.of(2, 3)], norm: 1 }),
    named({ windows: [window, window], norm: 1 }),
    named({ windows: [[1, 2, 3]], norm: 1 }),
    named({ windows: [window], norm: 1 }, { model: 'b' }),
    named({ windows: [window], norm: 1 }, { backend: 'ggml' }),
    named({ windows: [window], norm: 1 }, { precision: 'bfloat16' }),
    named({ windows: [window], norm: 1 }, {}, 2),
    nameStep({ kind, label: 'other norms', on: { windows: [window], norm: 1 } }, base),
    nameStep({ kind, label: 'norms', on: { windows: [window], norm: 1 } }, null),
  ]
  expect(new Set(names).size).toBe(names.length)
})

test('a name depends neither on how an object was built nor on where a file or a window is', () => {
  const long = Int32Array.of(0, 1, 2, 3)
  expect(named({ a: 1, b: [long.subarray(1, 3)] })).toBe(named({ b: [Int32Array.of(1, 2)], a: 1, c: undefined }))
  const file = (place: string) => ({ file: place, bytes: 3, sha256: 'f'.repeat(64) })
  expect(named({ weights: [file('/here')] })).toBe(named({ weights: [file('/there')] }))
  expect(named({ weights: [file('/here')] })).not.toBe(named({ weights: [{ ...file('/here'), sha256: 'e'.repeat(64) }] }))
})

test('a name keeps its words, and says which runs find it', () => {
  const of = (reach: 'all' | 'shared' | 'own') => nameStep({ kind: { version: 1, reach }, label: 'stage 2, round 3', on: null }, base)
  for (const reach of ['all', 'shared', 'own'] as const) {
    expect(labelOfStep(of(reach))).toBe('stage 2, round 3')
    expect(reachOfStep(of(reach))).toBe(reach)
  }
  expect(labelOfStep('page 3')).toBe('page 3')
})
