import { type Tensor, tidy } from '@tensorflow/tfjs-core'
import { expect } from 'vitest'
import { activeBackend, setActiveBackend } from '#engine/backend/active.ts'

/** The result of a computation with the runtime's own operations instead of the fused ones. */
export function plainly<T>(compute: () => T): T {
  const backend = activeBackend()
  const { fused: _, ...plain } = backend
  setActiveBackend(plain)
  try {
    return compute()
  } finally {
    setActiveBackend(backend)
  }
}

/** Expects equal shapes, and entries that differ by no more than this share of the largest. */
export function expectClose(own: Tensor, expected: Tensor, relative = 1e-5): void {
  expect(own.shape).toEqual(expected.shape)
  const [a, b] = [own.dataSync(), expected.dataSync()] as Float32Array[] as [Float32Array, Float32Array]
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0)
  expect(worst).toBeLessThanOrEqual(relative * scale)
}

/** Both compute the same tensors under the same names. */
export function expectSamePlainly(compute: () => object, relative = 2e-5): void {
  tidy(() => {
    const [own, plain] = [compute(), plainly(compute)] as Record<string, Tensor>[] as [Record<string, Tensor>, Record<string, Tensor>]
    expect(Object.keys(own).sort()).toEqual(Object.keys(plain).sort())
    for (const [name, tensor] of Object.entries(plain)) expectClose(own[name] as Tensor, tensor, relative)
  })
}
