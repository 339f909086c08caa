import * as tf from '@tensorflow/tfjs-core'
import { expect, test, vi } from 'vitest'
import { openBackend, takeFaster } from '#engine/backend/backend.ts'
import { openGgml } from '#engine/backend/ggml/open.ts'
import type { GgmlTensors } from '#engine/backend/ggml/tensors.ts'

test('the clearly faster of two backends is used, with both rates as the reason; one that does not open is skipped', async () => {
  const first = await openBackend('tensorflow')
  const rates =
    (...list: number[]) =>
    async () =>
      list.shift() ?? Number.NaN
  const faster = await takeFaster(first, openGgml, rates(100, 250))
  expect(faster).toMatchObject({ name: 'ggml-cpu', reason: `It multiplies at 250 GFLOP/s, ${first.title} at 100.` })
  expect(tf.getBackend()).toBe('ggml-cpu')

  const { device } = (tf.backend() as GgmlTensors).graph
  const close = vi.spyOn(device, 'dispose')
  const similar = await takeFaster({ ...first, reason: 'Setup found no NVIDIA GPU.' }, async () => faster, rates(100, 140))
  expect(similar.reason).toBe(
    `Setup found no NVIDIA GPU. It multiplies at 100 GFLOP/s, ${faster.title} at 140. A GPU is used if it is at least 1.5 times as fast.`,
  )
  expect(tf.getBackend()).toBe('tensorflow')
  expect(close, 'the other one is closed').toHaveBeenCalledOnce()
  expect(tf.engine().registry['ggml-cpu']).toBeUndefined()

  const refused = await takeFaster(first, () => Promise.reject(new Error('The driver is too old.')), rates(100))
  expect(refused).toMatchObject({ name: first.name, reason: `${first.reason} The GPU is not used: The driver is too old.` })
  expect(tf.getBackend()).toBe('tensorflow')
})
