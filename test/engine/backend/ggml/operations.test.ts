import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { plainCalls } from '#engine/backend/ggml/plain-kernels.ts'
import type { GgmlTensors } from '#engine/backend/ggml/tensors.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

const values = (...shape: number[]) =>
  tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(0.7 * i + shape.length) * 3),
    shape,
  )
const positive = (...shape: number[]) => tf.add(tf.abs(values(...shape)), 0.1)
const whole = (...list: number[]) => tf.tensor1d(list, 'int32')

/** Each is what the decoder and the methods ask for, with the shapes that take another way in the kernels. */
const operations: Record<string, () => tf.Tensor | tf.Tensor[]> = {
  'a product': () => tf.matMul(values(7, 33), values(33, 5)),
  'a product with a stored weight': () => tf.matMul(values(7, 33), values(5, 33), false, true),
  'a product with both turned': () => tf.matMul(values(33, 7), values(5, 33), true, true),
  'products of pairs': () => tf.matMul(values(3, 7, 9), values(3, 9, 4)),
  'one matrix for all pairs': () => tf.matMul(values(3, 7, 9), values(1, 4, 9), false, true),
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
  'turned dimensions': () => [
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

const numbersOf = (compute: () => tf.Tensor | tf.Tensor[]): number[] => {
  const results = [tf.tidy(compute)].flat()
  const numbers = results.flatMap((result) => [...result.shape, ...(result.dataSync() as Float32Array)])
  tf.dispose(results)
  return numbers
}

/** On a GPU, exponents and square roots are less exact; Vulkan allows errors of 3 units in the last place and more. */
const onGpu = testedBackend === 'ggml-gpu'
const allowed = onGpu ? 1e-5 : 1e-6

let name: string
let tensors: GgmlTensors
beforeAll(async () => {
  name = (await openBackend(onGpu ? 'ggml-gpu' : 'ggml')).name
  tensors = tf.backend() as GgmlTensors
})
afterAll(() => {
  // Steps that nobody reads any more hold their inputs until the next graph.
  tensors.graph.compute()
  expect(tensors.graph.device.memory.usedBytes, 'memory left behind').toBe(0)
})

test.each(Object.keys(operations))('%s is what plain JavaScript makes it, and ggml computes it', async (title) => {
  const compute = operations[title] as (typeof operations)[string]
  await tf.setBackend('cpu')
  const expected = numbersOf(compute)
  await tf.setBackend(name)
  plainCalls.clear()
  const found = numbersOf(compute)
  expect(found).toHaveLength(expected.length)
  const most = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1)
  expect(Math.max(...found.map((value, i) => Math.abs(value - (expected[i] as number)))) / most).toBeLessThan(allowed)
  expect([...plainCalls.keys()]).toEqual([])
})

test('what ggml has no operation for runs in JavaScript, between graphs', () => {
  plainCalls.clear()
  const numbers = numbersOf(() => tf.add(tf.topk(tf.mul(values(4), 2), 2).values, 1))
  expect(plainCalls.get('TopK')).toBe(1)
  expect(numbers.length).toBe(3)
})

test('a number outside a tensor is refused, as ggml would end the process', () => {
  expect(() => tf.gather(values(5, 3), whole(5))).toThrow('index 5 is not among 5 entries')
})

test('an array that is changed after it became a tensor does not change the tensor', () => {
  const list = Float32Array.of(1, 2, 3)
  const doubled = numbersOf(() => {
    const sum = tf.mul(tf.tensor1d(list), tf.tensor1d([2, 2, 2]))
    list.fill(9)
    return sum
  })
  expect(doubled).toEqual([3, 2, 4, 6])
})

test('memory of tensors that only waiting steps read is free after their graph', () => {
  const before = tensors.graph.device.memory.usedBytes
  const result = tf.tidy(() => tf.matMul(values(64, 512), values(512, 64)))
  expect(tensors.graph.device.memory.usedBytes - before, 'both operands wait').toBe(2 * 64 * 512 * 4)
  result.dataSync()
  expect(tensors.graph.device.memory.usedBytes - before, 'the result is left').toBe(64 * 64 * 4)
  result.dispose()
  expect(tensors.graph.device.memory.usedBytes).toBe(before)
})

test('a graph starts before what waits takes longer than a cancel may', () => {
  const { counts } = tensors.graph
  const before = counts.graphs
  tf.tidy(() => {
    const x = values(1024, 1024)
    for (let i = 0; i < 4; i++) tf.matMul(x, x, false, true)
  })
  expect(counts.graphs - before, 'of 2.1 GFLOP each').toBeGreaterThan(0)
})
