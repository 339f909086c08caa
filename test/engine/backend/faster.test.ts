import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { takeFaster } from '#engine/backend/faster.ts'
import { openGgml } from '#engine/backend/ggml/open.ts'

test('of two backends the faster computes, with both rates as the reason; one that does not open is not taken', async () => {
  const first = await openBackend('tensorflow')
  const rates =
    (...list: number[]) =>
    async () =>
      list.shift() ?? Number.NaN
  const faster = await takeFaster(first, openGgml, rates(100, 250))
  expect(faster).toMatchObject({ name: 'ggml-cpu', reason: `It multiplies at 250 GFLOP/s, ${first.title} at 100.` })
  expect(tf.getBackend()).toBe('ggml-cpu')

  const slower = await takeFaster({ ...first, reason: 'Setup found no NVIDIA GPU.' }, async () => faster, rates(100, 50))
  expect(slower.reason).toBe(`Setup found no NVIDIA GPU. It multiplies at 100 GFLOP/s, ${faster.title} at 50.`)
  expect(tf.getBackend()).toBe('tensorflow')

  const refused = await takeFaster(first, () => Promise.reject(new Error('The driver is too old.')), rates(100))
  expect(refused).toMatchObject({ name: first.name, reason: `${first.reason} The GPU is not used: The driver is too old.` })
  expect(tf.getBackend()).toBe('tensorflow')
})
