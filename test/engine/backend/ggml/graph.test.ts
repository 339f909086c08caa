import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { plainCalls } from '#engine/backend/ggml/plain-kernels.ts'
import type { GgmlTensors } from '#engine/backend/ggml/tensors.ts'
import { numbersOf, values, whole } from '../every-device/operations.ts'

let tensors: GgmlTensors
beforeAll(async () => {
  await openBackend('ggml')
  tensors = tf.backend() as GgmlTensors
})
afterAll(() => {
  // Steps that are no longer used keep their inputs until the next graph.
  tensors.graph.compute()
  expect(tensors.graph.device.memory.usedBytes, 'memory left behind').toBe(0)
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

test('memory of tensors that only waiting steps read is freed after their graph', () => {
  const before = tensors.graph.device.memory.usedBytes
  const result = tf.tidy(() => tf.matMul(values(64, 512), values(512, 64)))
  expect(tensors.graph.device.memory.usedBytes - before, 'both operands wait').toBe(2 * 64 * 512 * 4)
  result.dataSync()
  expect(tensors.graph.device.memory.usedBytes - before, 'the result is left').toBe(64 * 64 * 4)
  result.dispose()
  expect(tensors.graph.device.memory.usedBytes).toBe(before)
})

test('a graph starts before the waiting steps take longer than a cancel may', () => {
  const { counts } = tensors.graph
  const before = counts.graphs
  tf.tidy(() => {
    const x = values(1024, 1024)
    for (let i = 0; i < 4; i++) tf.matMul(x, x, false, true)
  })
  expect(counts.graphs - before, 'of 2.1 GFLOP each').toBeGreaterThan(0)
})
