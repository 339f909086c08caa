import * as tf from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { RuntimeProducts } from './bf16-ops.ts'

/** Multiplying small integers by this factor gives entries of 12 bits, which 16-bit types and TF32 would round. */
const factor = 1365

/** Multiplies two matrices whose product is known. Throws if the runtime computes wrongly, or with less precision than float32. */
export async function probe(): Promise<void> {
  const size = 96
  const product = tf.tidy(() => {
    const cyclic = (period: number, shift: number) =>
      tf.tensor2d(
        Float32Array.from({ length: size * size }, (_, i) => (i % period) - shift),
        [size, size],
      )
    const [a, b] = [tf.mul<tf.Tensor2D>(cyclic(7, 3), factor), cyclic(5, 2)]
    return tf.matMul(a, b)
  })
  const values = await product.data()
  product.dispose()
  for (let row = 0; row < size; row += 5) {
    for (let column = 0; column < size; column += 7) {
      let expected = 0
      for (let i = 0; i < size; i++) expected += factor * (((row * size + i) % 7) - 3) * (((i * size + column) % 5) - 2)
      const found = values[row * size + column]
      if (found !== expected) {
        throw new EspalierError(
          'internal',
          `The ${tf.getBackend()} runtime computes wrongly (an entry of a product is ${found} instead of ${expected}). Choose another backend.`,
        )
      }
    }
  }
}

/** Whether the runtime multiplies 16-bit operands correctly. The sums are small whole numbers, which are exact in 16 bits. */
export function multipliesIn16Bits(products: RuntimeProducts): boolean {
  const size = 64
  const entries = (period: number) => Float32Array.from({ length: size * size }, (_, i) => (i % period) - (period - 1) / 2)
  const [a, b] = [entries(3), entries(5)]
  try {
    const values = tf.tidy(() => {
      const [rows, weight] = [tf.tensor2d(a, [size, size]), products.pack(tf.tensor2d(b, [size, size]))]
      return products.multiply(rows, weight, [size, size]).dataSync()
    })
    const expected = (row: number, column: number) =>
      a.subarray(row * size, (row + 1) * size).reduce((sum, value, i) => sum + value * at(b, column * size + i), 0)
    return values.every((value, i) => value === expected(Math.floor(i / size), i % size))
  } catch {
    return false
  }
}

/** Measures the rate of products of two `size` x `size` matrices in float32: the best of `repeats`, in GFLOP/s. */
export async function measureRate(size = 1024, repeats = 5): Promise<number> {
  const a = tf.randomUniform<tf.Rank.R2>([size, size])
  const b = tf.randomUniform<tf.Rank.R2>([size, size])
  let best = Number.POSITIVE_INFINITY
  for (let repeat = 0; repeat <= repeats; repeat++) {
    const start = performance.now()
    const product = tf.matMul(a, b)
    await tf.slice(product, [0, 0], [1, 1]).data()
    if (repeat > 0) best = Math.min(best, performance.now() - start)
    product.dispose()
  }
  tf.dispose([a, b])
  return (2 * size ** 3) / best / 1e6
}
