import * as tf from '@tensorflow/tfjs-core'
import { expect, test, vi } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { ggmlFunctions } from '#engine/backend/ggml/functions.ts'
import type { GgmlTensors } from '#engine/backend/ggml/tensors.ts'

await openBackend('ggml')

const doubled = () => tf.tidy(() => [...tf.mul(tf.tensor1d([1, 2, 3]), tf.tensor1d([2, 2, 2])).dataSync()])
const usedBytes = () => (tf.backend() as GgmlTensors).graph.device.memory.usedBytes

test('a tensor too large for any memory is an error that says so, and the next graph works', () => {
  const before = usedBytes()
  // 2^48 numbers.
  const huge = () => tf.tidy(() => tf.matMul(tf.ones([2 ** 24, 1]), tf.ones([1, 2 ** 24])).dataSync())
  expect(huge).toThrow(expect.objectContaining({ code: 'out-of-memory' }))
  expect(doubled()).toEqual([2, 4, 6])
  expect(usedBytes()).toBe(before)
})

test('a device that stops computing is an error that says what to do, and missing results cannot be read', () => {
  const waiting = tf.add(tf.tensor1d([1, 2]), tf.tensor1d([3, 4]))
  // GGML_STATUS_FAILED, as the library returns it.
  vi.spyOn(ggmlFunctions(), 'compute').mockReturnValueOnce(-1)
  expect(doubled).toThrow("The device stopped computing (ggml's status -1). It may have been lost")
  expect(doubled()).toEqual([2, 4, 6])
  expect(() => waiting.dataSync()).toThrow('lost when the device failed')
  // GGML_STATUS_ALLOC_FAILED.
  vi.spyOn(ggmlFunctions(), 'compute').mockReturnValueOnce(-2)
  expect(doubled).toThrow(expect.objectContaining({ code: 'out-of-memory' }))
})
