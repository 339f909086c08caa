import { mul } from '@tensorflow/tfjs-core'
import { afterEach, expect, test } from 'vitest'
import { type Backend, setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { FusedOperations } from '#engine/backend/fused.ts'
import { measureRates } from '#engine/estimate/machine-rates.ts'
import { checkOperations } from '#engine/model/self-test.ts'
import { runSelfTest } from '#engine/tasks/self-test.ts'
import { runtimeTypes } from '../../fixtures/processor-features.ts'
import { asOnGpu } from '../backend/as-on-gpu.ts'

const backend = await openBackend('auto')
afterEach(() => setActiveBackend(backend))

/** The runtime with some operations replaced. */
function withOperations(changed: Partial<FusedOperations>): Backend {
  const { fused: _, ...plain } = backend
  return changed.gate ? { ...plain, fused: { ...(backend.fused as FusedOperations), ...changed } } : plain
}

test('reports the error of the worst operation, which is that of float32 and not zero', async () => {
  const found = await runSelfTest('auto')
  expect(found).toMatchObject({ backend: backend.name, device: backend.title, matches: true })
  expect(found.largestError).toBeGreaterThan(0)
  expect(found.largestError).toBeLessThan(1e-5)
  expect(found.gigaflopsPerSecond).toBeGreaterThan(0)
  expect(found.rates.map(({ hidden }) => hidden)).toEqual([128, 512])
  for (const { hidden: _, ...rate } of found.rates) expect(Math.min(...Object.values(rate)), JSON.stringify(rate)).toBeGreaterThan(0)
  expect(found.seconds).toBeGreaterThan(0)
})

test.skipIf(!runtimeTypes.includes('bfloat16'))('on a GPU, auto is as fast as float32, whatever the speed of 16-bit products', async () => {
  setActiveBackend(asOnGpu('bfloat16'))
  const [rate] = await measureRates([{ hidden: 64, intermediate: 128, heads: 2, vocabulary: 256 }])
  expect(rate?.auto).toBe(1)
  expect(rate?.bfloat16).not.toBe(1)
})

test('holds for the runtime’s own operations as well', () => {
  setActiveBackend(withOperations({}))
  expect(checkOperations().matches).toBe(true)
})

test.skipIf(!backend.fused)('fails and names the operation when one is off by a thousandth', () => {
  const gate: FusedOperations['gate'] = (a, b) => mul((backend.fused as FusedOperations).gate(a, b), 1.001)
  setActiveBackend(withOperations({ gate }))
  const { matches, largestError, worst } = checkOperations()
  expect({ matches, worst }).toEqual({ matches: false, worst: 'gated neurons' })
  expect(largestError).toBeCloseTo(1e-3, 5)
})

test.skipIf(!backend.fused)('fails when an operation gives NaN', () => {
  const gate: FusedOperations['gate'] = (a, b) => mul((backend.fused as FusedOperations).gate(a, b), Number.NaN)
  setActiveBackend(withOperations({ gate }))
  expect(checkOperations()).toMatchObject({ matches: false, worst: 'gated neurons' })
})
