import { add, memory, ones, type Rank, tidy } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { multipliesIn16Bits } from '#engine/backend/probe.ts'
import { missingRuntime, prepareEnvironment, TensorflowProducts } from '#engine/backend/tensorflow.ts'
import { runtimeTypes } from '../../fixtures/processor-features.ts'

await openBackend('tensorflow')

test('float32 is never TF32, whatever the user has set; the user’s other settings stay', () => {
  for (const set of [undefined, '1', '0']) {
    const environment: NodeJS.ProcessEnv = { TF_CPP_MIN_LOG_LEVEL: '0', ...(set ? { NVIDIA_TF32_OVERRIDE: set } : {}) }
    prepareEnvironment(environment)
    expect(environment).toMatchObject({ NVIDIA_TF32_OVERRIDE: '0', TF_CPP_MIN_LOG_LEVEL: '0', TF_FORCE_GPU_ALLOW_GROWTH: 'true' })
  }
})

test('without TensorFlow, the installed program says what ggml costs and where TensorFlow would come from', () => {
  expect(missingRuntime(true)).toMatch(/three times as fast as ggml.*pip, a C\+\+ compiler and a clone/)
  expect(missingRuntime(false)).toContain('`npm start`')
})

test('the library was loaded with TF32 off', () => {
  expect(process.env.NVIDIA_TF32_OVERRIDE).toBe('0')
})

test.each(runtimeTypes)('%s products are used where they are right; a type that the runtime cannot multiply is refused', (type) => {
  expect(multipliesIn16Bits(new TensorflowProducts(type))).toBe(true)
  expect(multipliesIn16Bits(new TensorflowProducts('no type' as 'float16'))).toBe(false)
})

test('packed values use half the memory, are tidied up like tensors, and are refused by float32 operations', () => {
  const before = memory()
  tidy(() => {
    const values = ones<Rank.R2>([64, 64])
    const packed = new TensorflowProducts('bfloat16').pack(values)
    expect(memory().numBytes - before.numBytes).toBe(4 * 64 * 64 + 2 * 64 * 64)
    expect(() => add(packed, 1).dataSync()).toThrow(/bfloat16/)
  })
  expect(memory().numTensors).toBe(before.numTensors)
  expect(memory().numBytes).toBe(before.numBytes)
})
