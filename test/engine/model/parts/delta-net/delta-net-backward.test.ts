import { add, memory, mul, randomNormal, sum, type Tensor, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { mixByDelta } from '#engine/model/parts/delta-net/delta-net.ts'
import { mixByDeltaBackward } from '#engine/model/parts/delta-net/delta-net-backward.ts'
import { decayRateOf } from '#engine/model/weights/unpack.ts'
import type { DeltaWeights } from '#engine/model/weights/weights.ts'
import { lengthOf } from '../../../pruning/recovery/training.ts'

await openBackend('tensorflow')

const shape = { keyHeads: 2, valueHeads: 4, keySize: 6, valueSize: 5 }
// Three chunks: the one in the middle receives a state's gradient and passes one on.
const [batch, tokens] = [2, 134]
const [channels, values] = [2 * 12 + 20, 20]
const normal = <T extends Tensor>(size: number[], seed: number) => randomNormal(size as never, 0, 1, 'float32', seed) as unknown as T

/** The tensors of a DeltaNet as a checkpoint stores them; two value heads share a key head, and the last chunk is not full. */
const stored = {
  projected: normal<Tensor2D>([batch * tokens, channels + values + 8], 1),
  convolution: normal<Tensor2D>([channels, 4], 2),
  decay: normal<Tensor1D>([4], 3),
  rateBias: normal<Tensor1D>([4], 4),
  readNorm: normal<Tensor1D>([5], 5),
}
const outer = normal<Tensor2D>([batch * tokens, values], 6)

const weightsOf = ({ convolution, decay, rateBias, readNorm }: typeof stored): DeltaWeights => ({
  convolution,
  decayRate: tidy(() => decayRateOf(decay)),
  decayBias: rateBias,
  readNorm: { kind: 'rms', epsilon: 1e-6, weight: readNorm },
})

const loss = (of: typeof stored): number =>
  tidy(() => at(sum(mul(mixByDelta(of.projected, weightsOf(of), shape, batch).mixed, outer)).dataSync(), 0))

test('gradients of a DeltaNet are the slopes of differences along them', () => {
  const before = memory().numTensors
  const weights = weightsOf(stored)
  const { projected, gradients } = mixByDeltaBackward(stored.projected, weights, shape, batch, outer)
  // The rate of the weights, and the five gradients.
  expect(memory().numTensors).toBe(before + 6)
  for (const [name, gradient] of Object.entries({ projected, ...gradients }) as [keyof typeof stored, Tensor][]) {
    const length = lengthOf(gradient.dataSync())
    const moved = (by: number) => tidy(() => loss({ ...stored, [name]: add(stored[name], mul(gradient, by / length)) }))
    const step = 0.01
    const slope = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step)
    expect(Math.abs(slope / length - 1), name).toBeLessThan(0.002)
  }
})
