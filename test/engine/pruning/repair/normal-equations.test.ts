import { matMul, memory, randomNormal, slice, sub, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { algebra } from '#engine/algebra/openblas.ts'
import { ownAlgebra } from '#engine/algebra/own.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { ridges, solveWithRidge } from '#engine/pruning/repair/choose-ridge.ts'
import { NormalEquations, sampledOutputs } from '#engine/pruning/repair/normal-equations.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

beforeAll(async () => {
  await openBackend(testedBackend)
})

const near = (value: number) => expect.closeTo(value, 5)
const draw = (rows: number, columns: number, seed: number): Tensor2D => randomNormal([rows, columns], 0, 1, 'float32', seed)

/** The weights that equations lead to, and the errors of the old and the new ones. */
function solve(equations: NormalEquations, weight: Tensor2D, ridge: number) {
  const before = equations.error
  const change = equations.solve(ridge)
  const old = weight.dataSync()
  return { solved: [...change].map((value, i) => value + (old[i] as number)), before, after: before + equations.errorAdded(change) }
}

const makers: [string, (weight: Tensor2D) => NormalEquations][] = [
  ['OpenBLAS', (weight) => new NormalEquations(weight, algebra())],
  ['our own code', (weight) => new NormalEquations(weight, ownAlgebra)],
]

test('OpenBLAS is there', () => expect(algebra()).not.toBe(ownAlgebra))

describe.each(makers)('equations by %s', (_, make) => {
  test('solve a problem of two unknowns as by hand', () => {
    const old = tensor2d([1, 1], [1, 2])
    const equations = make(old)
    // G = diag(4, 1), M = [4, 2], tr(G)/K = 2.5; from the old weights [1, 1] with ridge 0.4 (a shift of 1): 1 + 4/5, 1 + 2/2.
    equations.add(tensor2d([2, 0, 0, 1], [2, 2]), tensor2d([4, 3], [2, 1]))
    const { solved, before, after } = solve(equations, old, 0.4)
    expect(solved).toEqual([expect.closeTo(1.8, 6), expect.closeTo(2, 6)])
    expect(before).toBeCloseTo((4 + 4) / 25, 6)
    expect(after).toBeCloseTo((0.4 ** 2 + 1) / 25, 6)
    expect(before + equations.errorAdded(Float64Array.of(1, 2))).toBeCloseTo(0, 6)
  })

  test('merged from two halves they are those of the whole', () => {
    const [z, t, w] = [draw(40, 6, 1), draw(40, 4, 2), draw(4, 6, 3)]
    const [whole, first, second] = [make(w), make(w), make(w)]
    whole.add(z, t)
    first.add(slice(z, [0, 0], [15, 6]), slice(t, [0, 0], [15, 4]))
    second.add(slice(z, [15, 0], [25, 6]), slice(t, [15, 0], [25, 4]))
    first.merge(second)
    const [a, b] = [solve(first, w, 0.1), solve(whole, w, 0.1)]
    expect(a).toEqual({ solved: b.solved.map(near), before: near(b.before), after: near(b.after) })
  })

  test('are the same if the caller knows what the outputs lack', () => {
    const [z, t, w] = [draw(40, 6, 1), draw(40, 4, 2), draw(4, 6, 3)]
    const [own, given] = [make(w), make(w)]
    own.add(z, t)
    given.add(z, t, sub<Tensor2D>(t, matMul(z, w, false, true)))
    expect(solve(given, w, 0.1)).toEqual(solve(own, w, 0.1))
  })

  test('a sample of many outputs solves some of them, and finds the same ridge', () => {
    const [z, t, w] = [draw(40, 6, 1), draw(40, 2 * sampledOutputs, 2), draw(2 * sampledOutputs, 6, 3)]
    const equations = make(w)
    equations.add(z, t)
    const [all, some] = [equations.solve(0.1), equations.sample().solve(0.1)]
    expect(some).toHaveLength(sampledOutputs * 6)
    expect([...some.subarray(6, 12)]).toEqual([...all.subarray(12, 18)].map(near))
    const [whole, estimate] = [equations.errorAdded(all), equations.sample().errorAdded(some)]
    expect(estimate / whole).toBeCloseTo(1, 1)
  })

  test('keep the old weights when every input is zero', () => {
    const old = tensor2d([3, 4], [1, 2])
    const equations = make(old)
    equations.add(tensor2d([0, 0], [1, 2]), tensor2d([1], [1, 1]))
    expect(solve(equations, old, 1).solved).toEqual([3, 4])
  })

  test('give back every tensor', () => {
    const before = memory().numTensors
    const [z, t, w] = [draw(8, 3, 1), draw(8, 2, 2), draw(2, 3, 3)]
    const equations = make(w)
    equations.add(z, t)
    solve(equations, w, 1)
    equations.dispose()
    for (const tensor of [z, t, w]) tensor.dispose()
    expect(memory().numTensors).toBe(before)
  })
})

test('a fit without the held-out windows is solved for all outputs only where it is asked for', () => {
  for (const [outputs, judges, solves] of [
    // The first ridge, the next one, which is worse, and the fit on all windows.
    [4, true, 3],
    [2 * sampledOutputs, false, 3],
    // And the first ridge for all outputs.
    [2 * sampledOutputs, true, 4],
  ] as const) {
    const shifts: number[] = []
    const counting = {
      ...ownAlgebra,
      solve: (...given: Parameters<typeof ownAlgebra.solve>) => {
        shifts.push(given[1])
        return ownAlgebra.solve(...given)
      },
    }
    const w = draw(outputs, 6, 3)
    const half = (seed: number) => {
      const equations = new NormalEquations(w, counting)
      const z = draw(40, 6, seed)
      equations.add(z, matMul(z, draw(outputs, 6, 9), false, true))
      return equations
    }
    const { changes, ridge } = solveWithRidge({ fitted: half(1), heldOut: half(2) }, judges)
    expect(ridge).toBe(ridges[0])
    expect([changes?.all.length, changes?.judged?.length]).toEqual([6 * outputs, judges ? 6 * outputs : undefined])
    expect(shifts).toHaveLength(solves)
  }
})

test('both ways agree on a problem with more columns than rows', () => {
  const [z, t, w] = [draw(12, 20, 4), draw(12, 5, 5), draw(5, 20, 6)]
  const solutions = makers.map(([, make]) => {
    const equations = make(w)
    equations.add(z, t)
    return solve(equations, w, 0.01).solved
  })
  const [runtime, own] = solutions as [number[], number[]]
  expect(runtime).toEqual(own.map(near))
})

test.each([
  ['more columns and rows than one product in float64 takes', 1100, 300, 3],
  ['sizes that fill no block of a factor and no tile of a product', 200, 70, 37],
] as const)('both ways agree on %s', (_, rows, columns, outputs) => {
  const [z, t, w] = [draw(rows, columns, 7), draw(rows, outputs, 8), draw(outputs, columns, 9)]
  const [runtime, own] = makers.map(([, make]) => {
    const equations = make(w)
    equations.add(z, t)
    return solve(equations, w, 0.01)
  }) as [ReturnType<typeof solve>, ReturnType<typeof solve>]
  expect(runtime.solved).toEqual(own.solved.map(near))
  expect(runtime.before).toBeCloseTo(own.before, 4)
})
