import { add, matMul, mul, randomNormal, type Tensor2D, zeros } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { NormalEquations } from '#engine/pruning/repair/normal-equations.ts'
import { MixtureFit } from '#engine/pruning/repair/repair-mixture.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

beforeAll(async () => void (await openBackend(testedBackend)))

test('the error afterwards is on windows that the judged weights have not seen', () => {
  const [hidden, neurons] = [3, 40]
  const random = (rows: number, columns: number, seed: number): Tensor2D => randomNormal([rows, columns], 0, 1, 'float32', seed)
  const truth = random(neurons, hidden, 1)
  const fit = new MixtureFit(hidden)
  const old: Tensor2D = zeros([hidden, neurons])
  const lanes = { fitted: new NormalEquations(old), heldOut: new NormalEquations(old) }
  for (const [index, [kind, tokens]] of (
    [
      ['fitted', 120],
      ['heldOut', 40],
    ] as const
  ).entries()) {
    const [inputs, noise] = [random(tokens, neurons, 2 + index), random(tokens, hidden, 4 + index)]
    // Mostly noise, which a fit to few tokens would follow.
    const wanted: Tensor2D = add(mul<Tensor2D>(matMul<Tensor2D>(inputs, truth), 0.2), noise)
    const lane = { index, heldOut: kind === 'heldOut', repaired: false }
    fit.begin(lane, wanted, zeros([tokens, hidden]))
    const rows = Int32Array.from({ length: tokens }, (_, row) => row)
    fit.collect(lane, { expert: 0, rows, gates: new Float32Array(tokens).fill(1), inner: inputs, output: noise })
    lanes[kind].add(inputs, wanted)
  }
  const [[, routed] = [0, []]] = fit.takeCollected()
  const solved = fit.solve(routed, old, (exact) => exact.clone())
  const { ridge, before, after } = fit.figures()
  expect(before).toBeCloseTo(1, 6)
  expect(after).toBeLessThan(1)
  // The old weights are zero, so new weights are the change.
  expect(after).toBeCloseTo(1 + lanes.heldOut.errorAdded(lanes.fitted.solve(ridge)), 5)
  // Weights fitted on all windows would seem to leave a far smaller error.
  expect(1 + lanes.heldOut.errorAdded(Float64Array.from((solved as Tensor2D).dataSync()))).toBeLessThan(0.9 * after)
})
