import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { plainCalls } from '#engine/backend/ggml/plain-kernels.ts'
import { logSumExponents } from '#engine/model/parts/head/token-losses.ts'
import { computeOn, type TestedDevice } from './devices.ts'

export const values = (...shape: number[]) =>
  tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(0.7 * i + shape.length) * 3),
    shape,
  )
const positive = (...shape: number[]) => tf.add(tf.abs(values(...shape)), 0.1)
export const whole = (...list: number[]) => tf.tensor1d(list, 'int32')

/** What the decoder and the methods use, in the shapes that take different paths in the kernels. */
const operations: Record<string, () => tf.Tensor | tf.Tensor[]> = {
  // Vulkan has a separate shader for each number of rows up to 8, and compiling one takes seconds.
  'a product': () => tf.matMul(values(12, 33), values(33, 10)),
  'a product of one row': () => tf.matMul(values(1, 33), values(10, 33), false, true),
  'a product with a stored weight': () => tf.matMul(values(12, 33), values(10, 33), false, true),
  'a product of rows that are no multiple of a vector': () => tf.matMul(values(130, 21), values(128, 21), false, true),
  'a product with both transposed': () => tf.matMul(values(33, 12), values(10, 33), true, true),
  'products of pairs': () => tf.matMul(values(3, 12, 9), values(3, 9, 10)),
  'one matrix for all pairs': () => tf.matMul(values(3, 12, 9), values(1, 10, 9), false, true),
  'all elements': () => tf.add(tf.mul(values(4, 6), values(4, 6)), tf.sub(values(4, 6), tf.div(values(4, 6), positive(4, 6)))),
  'a row for each row': () => tf.mul(values(4, 6), values(6)),
  'a column for each column': () => tf.sub(values(4, 6), values(4, 1)),
  'a matrix minus from a row': () => tf.sub(values(6), values(4, 6)),
  'both are repeated': () => tf.mul(values(4, 1, 3), values(1, 5, 3)),
  'five dimensions': () => tf.add(values(2, 3, 2, 2, 3), values(2, 3, 1, 2, 3)),
  'a number': () => tf.sub(1, tf.div(tf.mul(values(4, 6), 0.3), 7)),
  'the larger of a number': () => tf.maximum(values(4, 6), 0.2),
  functions: () => [tf.exp, tf.tanh, tf.sigmoid, tf.relu, tf.square, tf.neg, tf.abs, tf.step].map((one) => one(values(5, 7))),
  'functions of what is positive': () => [tf.sqrt, tf.rsqrt, tf.log].map((one) => one(positive(5, 7))),
  'the error function': () => tf.erf(tf.concat([values(40), tf.tensor1d([0, 1e-12, -1e-6])])),
  softplus: () => tf.softplus(tf.tensor1d([-30, -8, -0.1, 0, 0.1, 8, 30])),
  softmax: () => tf.softmax(values(3, 4, 5)),
  'sums of rows': () => tf.sum(values(3, 4, 5), 2),
  'sums over the first dimension': () => tf.sum(values(3, 4, 5), 0, true),
  'means in the middle': () => tf.mean(values(3, 4, 5), 1),
  'the sum of all': () => tf.sum(values(3, 4, 5)),
  'largest of rows and columns': () => [tf.max(values(3, 70), 1), tf.max(values(3, 70), 0, true)],
  'running sums': () => tf.cumsum(values(3, 8, 1), 1),
  'a box': () => tf.slice(values(2, 3, 4, 5), [1, 0, 2, 1], [1, 2, -1, 3]),
  'transposed dimensions': () => [
    tf.transpose(values(3, 5)),
    tf.transpose(values(2, 3, 4, 5), [0, 2, 1, 3]),
    tf.transpose(values(2, 3, 4), [2, 0, 1]),
  ],
  'parts joined': () => tf.concat([values(2, 3, 4), values(2, 1, 4), values(2, 2, 4)], 1),
  'parts joined at the end': () => tf.concat([values(2, 3), values(2, 1)], 1),
  'stacked and taken apart': () => tf.unstack(tf.stack([values(2, 3), tf.neg(values(2, 3))], 1), 2),
  pieces: () => tf.split(values(4, 6), [1, 3, 2], 1),
  'repeated and padded': () =>
    tf.pad(tf.tile(values(2, 3), [2, 2]), [
      [1, 0],
      [0, 2],
    ]),
  'rows by number': () => tf.gather(values(5, 3), whole(4, 0, 0, 2)),
  'columns by number': () => tf.gather(values(5, 3), whole(2, 0), 1),
  'places in the middle': () => tf.gather(values(3, 5, 2), whole(4, 1, 1), 1),
}

/** Computes results; returns their shapes and numbers. */
export const numbersOf = (compute: () => tf.Tensor | tf.Tensor[]): number[] => {
  const results = [tf.tidy(compute)].flat()
  const numbers = results.flatMap((result) => [...result.shape, ...(result.dataSync() as Float32Array)])
  tf.dispose(results)
  return numbers
}

/**
 * Largest error, relative to the largest result. Vulkan allows errors of 3 units in the last place and more for exponentials and square
 * roots.
 */
const allowed: Readonly<Record<TestedDevice, number>> = { 'tensorflow-cpu': 1e-6, 'ggml-cpu': 1e-6, 'ggml-vulkan': 1e-5 }

/** Compares every operation on a device with plain JavaScript. */
export function testOperations(device: TestedDevice): void {
  test.each(Object.keys(operations))('%s is what plain JavaScript makes it', async (title) => {
    const compute = operations[title] as (typeof operations)[string]
    await tf.setBackend('cpu')
    const expected = numbersOf(compute)
    await computeOn(device)
    plainCalls.clear()
    const found = numbersOf(compute)
    expect(found).toHaveLength(expected.length)
    const most = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1)
    expect(Math.max(...found.map((value, i) => Math.abs(value - (expected[i] as number)))) / most).toBeLessThan(allowed[device])
    expect([...plainCalls.keys()], 'operations that ggml does not compute').toEqual([])
  })

  test('sums of exponents are those of float64, also where plain ones would overflow or one logit exceeds all others', async () => {
    await computeOn(device)
    const [rows, width] = [5, 1003]
    const logits = Float32Array.from({ length: rows * width }, (_, i) => 90 * Math.sin(i) + (i < width ? 500 : -500))
    logits[3 * width + 501] = 400
    const given = tf.tensor2d(logits, [rows, width])
    const found = logSumExponents(given)
    given.dispose()
    for (let row = 0; row < rows; row++) {
      const own = logits.subarray(row * width, (row + 1) * width)
      const top = Math.max(...own)
      expect(found[row]).toBeCloseTo(top + Math.log(own.reduce((sum, value) => sum + Math.exp(value - top), 0)), 4)
    }
  })
}
