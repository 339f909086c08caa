import { memory, randomNormal, slice, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { algebra } from '#engine/algebra/openblas.ts'
import { ownAlgebra } from '#engine/algebra/own.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { NormalEquations } from '#engine/pruning/repair/normal-equations.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

beforeAll(async () => {
  await openBackend(testedBackend)
})

const draw = (rows: number, columns: number, seed: number): Tensor2D => randomNormal([rows, columns], 0, 1, 'float32', seed)

const makers: [string, () => NormalEquations][] = [
  ['OpenBLAS', () => new NormalEquations(algebra())],
  ['our own code', () => new NormalEquations(ownAlgebra)],
]

test('OpenBLAS is there', () => expect(algebra()).not.toBe(ownAlgebra))

describe.each(makers)('equations by %s', (_, make) => {
  test('solve a problem of two unknowns as by hand', () => {
    const equations = make()
    // G = diag(4, 1), C = [8, 3], tr(G)/K = 2.5; from the old weights [1, 1] with ridge 0.4 (a shift of 1): 1 + 4/5, 1 + 2/2.
    equations.add(tensor2d([2, 0, 0, 1], [2, 2]), tensor2d([4, 3], [2, 1]))
    const solved = equations.solve(tensor2d([1, 1], [1, 2]), 0.4)
    expect([...solved.dataSync()]).toEqual([expect.closeTo(1.8, 6), expect.closeTo(2, 6)])
    expect(equations.error(tensor2d([1, 1], [1, 2]))).toBeCloseTo((4 + 4) / 25, 6)
    expect(equations.error(tensor2d([2, 3], [1, 2]))).toBeCloseTo(0, 6)
  })

  test('merged from two halves they are those of the whole', () => {
    const [z, t, w] = [draw(40, 6, 1), draw(40, 4, 2), draw(4, 6, 3)]
    const [whole, first, second] = [make(), make(), make()]
    whole.add(z, t)
    first.add(slice(z, [0, 0], [15, 6]), slice(t, [0, 0], [15, 4]))
    second.add(slice(z, [15, 0], [25, 6]), slice(t, [15, 0], [25, 4]))
    first.merge(second)
    expect(first.error(w)).toBeCloseTo(whole.error(w), 6)
    const [a, b] = [first.solve(w, 0.1).dataSync(), whole.solve(w, 0.1).dataSync()]
    expect([...a]).toEqual([...b].map((value) => expect.closeTo(value, 5)))
  })

  test('keep the old weights when every input is zero', () => {
    const equations = make()
    equations.add(tensor2d([0, 0], [1, 2]), tensor2d([1], [1, 1]))
    expect([...equations.solve(tensor2d([3, 4], [1, 2]), 1).dataSync()]).toEqual([3, 4])
  })

  test('give back every tensor', () => {
    const before = memory().numTensors
    const equations = make()
    const [z, t, w] = [draw(8, 3, 1), draw(8, 2, 2), draw(2, 3, 3)]
    equations.add(z, t)
    const solved = equations.solve(w, 1)
    equations.error(solved)
    equations.dispose()
    for (const tensor of [z, t, w, solved]) tensor.dispose()
    expect(memory().numTensors).toBe(before)
  })
})

test('both ways agree on a problem with more columns than rows', () => {
  const [z, t, w] = [draw(12, 20, 4), draw(12, 5, 5), draw(5, 20, 6)]
  const solutions = makers.map(([, make]) => {
    const equations = make()
    equations.add(z, t)
    return equations.solve(w, 0.01).dataSync()
  })
  const [runtime, own] = solutions as [Float32Array, Float32Array]
  expect([...runtime]).toEqual([...own].map((value) => expect.closeTo(value, 5)))
})

test.each([
  ['more columns and rows than one product in float64 takes', 1100, 300, 3],
  ['sizes that fill no block of a factor and no tile of a product', 200, 70, 37],
] as const)('both ways agree on %s', (_, rows, columns, outputs) => {
  const [z, t, w] = [draw(rows, columns, 7), draw(rows, outputs, 8), draw(outputs, columns, 9)]
  const [runtime, own] = makers.map(([, make]) => {
    const equations = make()
    equations.add(z, t)
    return { error: equations.error(w), solved: equations.solve(w, 0.01).dataSync() }
  }) as [{ error: number; solved: Float32Array }, { error: number; solved: Float32Array }]
  expect([...runtime.solved]).toEqual([...own.solved].map((value) => expect.closeTo(value, 6)))
  expect(runtime.error).toBeCloseTo(own.error, 4)
})
