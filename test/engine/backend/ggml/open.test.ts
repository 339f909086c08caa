import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, expect, test, vi } from 'vitest'
import { activeBackend, setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { ggmlFunctions } from '#engine/backend/ggml/functions.ts'
import { findRuntimeProducts } from '#engine/backend/ggml/open.ts'
import type { GgmlTensors } from '#engine/backend/ggml/tensors.ts'
import { openSpec } from '#engine/model/model.ts'
import { productsForTraining, resolvePrecision } from '#engine/model/precision.ts'
import { sampleModelFolder } from '#runtime/resources.ts'

let tensors: GgmlTensors
beforeAll(async () => {
  await openBackend('ggml')
  tensors = tf.backend() as GgmlTensors
})

/** Spoils the device, and asks for `mixed` on it. */
async function askMixed(spoil: () => { mockRestore(): void }): Promise<string> {
  const { spec } = await openSpec(sampleModelFolder)
  setActiveBackend({ ...activeBackend(), runtimeProducts: findRuntimeProducts(tensors, 'bfloat16') })
  const spoiled = spoil()
  try {
    return resolvePrecision('mixed', spec)
  } finally {
    spoiled.mockRestore()
  }
}

test('mixed is refused on a device that multiplies 16 bits wrongly, or cannot', async () => {
  const { operations } = tensors.graph.device
  const { product, scale } = operations
  const doubled = (a: number, b: number) => scale(product(a, b), 2, 0)
  const refusal = /^Precision mixed needs .*, or ggml on a device whose 16-bit products pass a check; ggml .* computes in float32 only\./
  await expect(askMixed(() => vi.spyOn(operations, 'product').mockImplementation(doubled as typeof product))).rejects.toThrow(refusal)
  await expect(askMixed(() => vi.spyOn(ggmlFunctions(), 'supports').mockReturnValue(false))).rejects.toThrow(refusal)
  expect(await askMixed(() => ({ mockRestore: () => undefined }))).toBe('mixed')
  expect(productsForTraining()).toBe('float32')
})
