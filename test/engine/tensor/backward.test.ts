import { type Rank, randomNormal } from '@tensorflow/tfjs-core'
import { describe, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { type Activation, neuronsBackward } from '#engine/tensor/activation.ts'
import { normalizeBackward } from '#engine/tensor/norm.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { expectSamePlainly } from '../backend/plainly.ts'

const { fused } = await openBackend(testedBackend)

const normal = <R extends Rank>(shape: number[], seed: number, deviation = 1) =>
  randomNormal<R>(shape as never, 0, deviation, 'float32', seed)

describe.skipIf(!fused)('fused backward passes', () => {
  test.each([
    { rows: 1, size: 1, kind: 'rms', weighted: true, divisor: 1 },
    { rows: 130, size: 48, kind: 'rms', weighted: true, divisor: 48 },
    { rows: 65, size: 19, kind: 'rms', weighted: false, divisor: 24 },
    { rows: 70, size: 33, kind: 'layer', weighted: true, divisor: 33 },
  ] as const)('gradients of a norm equal those step by step: %o', ({ rows, size, kind, weighted, divisor }) => {
    expectSamePlainly(() => {
      const weight = weighted ? { weight: normal<Rank.R1>([size], 3) } : {}
      const norm = { kind, epsilon: 1e-5, divisor, ...weight }
      return normalizeBackward(normal<Rank.R2>([rows, size], 1), norm, normal<Rank.R2>([rows, size], 2))
    })
  })

  const activations: Activation[] = ['silu', 'gelu', 'gelu_tanh', 'relu']
  test.each(activations.flatMap((activation) => [true, false].map((gated) => ({ activation, gated }))))(
    'gradients of neurons equal those step by step: %o',
    ({ activation, gated }) => {
      for (const [rows, width] of [
        [1, 1],
        [7, 37],
        [300, 64],
      ] as const) {
        const [gate, up, gradient] = [1, 2, 3].map((seed) => normal<Rank.R2>([rows, width], seed)) as [
          ReturnType<typeof normal<Rank.R2>>,
          ReturnType<typeof normal<Rank.R2>>,
          ReturnType<typeof normal<Rank.R2>>,
        ]
        expectSamePlainly(() => neuronsBackward(gated ? gate : undefined, up, activation, gradient))
      }
    },
  )
})
