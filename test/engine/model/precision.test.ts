import { afterEach, expect, test } from 'vitest'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { halfUnits } from '#engine/tensor/half-units.ts'
import { asOnGpu } from '../backend/as-on-gpu.ts'

const own = await openBackend('tensorflow')
afterEach(() => setActiveBackend(own))

test('auto is mixed on units of the processor, and float32 on a GPU, which nobody has timed', () => {
  expect(resolvePrecision('auto')).toBe(own.halves ? 'mixed' : 'float32')
  setActiveBackend(asOnGpu('bfloat16'))
  expect(resolvePrecision('auto')).toBe('float32')
})

test.each(['bfloat16', 'float16'] as const)('a GPU with %s units ranks by them, and scores again and passes in float32', (type) => {
  setActiveBackend(asOnGpu(type))
  expect(halfUnits().units).toBe(`TensorFlow ${type}`)
  expect(resolvePrecision('mixed')).toBe('mixed')
  expect(resolvePrecision('bfloat16')).toBe('bfloat16')
  expect(productsFor('mixed')).toMatchObject({ passes: 'float32', ranking: 'bfloat16', rescoring: 'float32', deciding: 'float32' })
})

test('a device without units refuses all but float32, and says what it is', () => {
  const { halfType: _, ...plain } = asOnGpu('bfloat16')
  setActiveBackend({ ...plain, name: 'ggml-cpu', title: 'ggml' })
  expect(resolvePrecision('auto')).toBe('float32')
  expect(resolvePrecision('float32')).toBe('float32')
  for (const wanted of ['mixed', 'bfloat16'] as const) {
    expect(() => resolvePrecision(wanted)).toThrow(`Precision ${wanted} needs`)
    expect(() => resolvePrecision(wanted)).toThrow('ggml computes in float32 only')
  }
})
