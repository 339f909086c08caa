import { afterEach, expect, test } from 'vitest'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type Model, openSpec } from '#engine/model/model.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { Walk } from '#engine/model/walk.ts'
import { bf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { asOnGpu } from '../backend/as-on-gpu.ts'

const own = await openBackend('tensorflow')
const { spec } = await openSpec(sampleModelFolder)
const limited = { ...spec, neuronLimit: { most: 7, slope: 1.702 } }
const withSinks = { ...spec, block: (index: number) => ({ ...spec.block(index), sinks: { weight: 'sinks', shape: [spec.heads] } }) }
afterEach(() => setActiveBackend(own))

test('auto is mixed on units of the processor, and float32 on a GPU, where it was never timed', () => {
  expect(resolvePrecision('auto', spec)).toBe(own.bf16 ? 'mixed' : 'float32')
  setActiveBackend(asOnGpu('bfloat16'))
  expect(resolvePrecision('auto', spec)).toBe('float32')
})

test.each(['bfloat16', 'float16'] as const)('a GPU with %s units ranks by them, and scores again and passes in float32', (type) => {
  setActiveBackend(asOnGpu(type))
  expect(bf16Ops().units).toBe(`TensorFlow ${type}`)
  expect(resolvePrecision('mixed', spec)).toBe('mixed')
  expect(resolvePrecision('bfloat16', spec)).toBe('bfloat16')
  expect(productsFor('mixed')).toMatchObject({ passes: 'float32', ranking: 'bfloat16', rescoring: 'float32', deciding: 'float32' })
})

test('a device without units refuses every precision except float32, and names itself', () => {
  const { runtimeProducts: _, ...plain } = asOnGpu('bfloat16')
  setActiveBackend({ ...plain, name: 'ggml-cpu', title: 'ggml' })
  expect(resolvePrecision('auto', spec)).toBe('float32')
  expect(resolvePrecision('float32', spec)).toBe('float32')
  for (const wanted of ['mixed', 'bfloat16'] as const) {
    expect(() => resolvePrecision(wanted, spec)).toThrow(`Precision ${wanted} needs`)
    expect(() => resolvePrecision(wanted, spec)).toThrow('ggml computes in float32 only')
  }
})

test.each([limited, withSinks])('a model with limits on neurons or sinks in attention is computed in float32', (other) => {
  setActiveBackend(asOnGpu('bfloat16'))
  for (const wanted of ['auto', 'mixed', 'bfloat16'] as const) expect(resolvePrecision(wanted, other)).toBe('float32')
  expect(new Walk(denseView({ spec: other } as Model), 'bfloat16').products).toBe('float32')
  expect(new Walk(denseView({ spec } as Model), 'bfloat16').products).toBe('bfloat16')
})
