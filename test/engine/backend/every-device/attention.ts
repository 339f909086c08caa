import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { attendHeads } from '#engine/model/parts/attention/attention.ts'
import { mixHeadsByStep } from '#engine/model/parts/attention/plain-attention.ts'
import { rotaryTables } from '#engine/tensor/rotary.ts'
import { computeOn, type TestedDevice } from './devices.ts'
import { values } from './operations.ts'

/** Compares a device's own attention, if it has one, with the same operation by operation. */
export function testAttention(device: TestedDevice): void {
  // Tiles that rows and keys do not fill, windows that begin inside one, heads that are partly rotated, too few rows for tiles.
  test.each([
    { heads: 6, keyValueHeads: 2, size: 64, tokens: 600, samples: 1, window: 0, rotated: 64, cap: undefined },
    { heads: 2, keyValueHeads: 1, size: 80, tokens: 130, samples: 2, window: 0, rotated: 32, cap: undefined },
    { heads: 2, keyValueHeads: 2, size: 16, tokens: 530, samples: 2, window: 70, rotated: 16, cap: 2 },
    { heads: 4, keyValueHeads: 2, size: 8, tokens: 37, samples: 3, window: 7, rotated: 8, cap: 3 },
    { heads: 1, keyValueHeads: 1, size: 4, tokens: 1, samples: 2, window: 0, rotated: 4, cap: undefined },
  ])('attention is that of single operations: %o', async ({ heads, keyValueHeads, size, tokens, samples, window, rotated, cap }) => {
    await computeOn(device)
    const shape = { heads, keyValueHeads, window, cap }
    const inverse = Float64Array.from({ length: rotated / 2 }, (_, i) => 1000 ** (-2 * (i / rotated)))
    const [own, expected] = tf.tidy(() => {
      // Scores up to about 20, as a model has them.
      const projected: tf.Tensor2D = tf.mul(values(samples * tokens, (heads + 2 * keyValueHeads) * size), 0.2)
      const tables = rotaryTables({ size: rotated, frequencies: () => ({ inverse, scale: 1 }) }, 0, tokens)
      const byStep = mixHeadsByStep(projected, tables, shape, (a, b, transposeB) => tf.matMul(a, b, false, transposeB))
      return [attendHeads(projected, tables, shape).dataSync(), byStep.dataSync()] as [Float32Array, Float32Array]
    })
    expect(own).toHaveLength(samples * tokens * heads * size)
    // Values are 0.6 at most.
    const error = own.reduce((most, value, i) => Math.max(most, Math.abs(value - at(expected, i))), 0)
    expect(error).toBeLessThan(device === 'ggml-vulkan' ? 1e-5 : 1e-6)
  })
}
