import { type Rank, randomNormal, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { mixHeadsBackward } from '#engine/model/parts/attention/attention-backward.ts'
import type { Products } from '#engine/tensor/products.ts'
import { rotaryTables } from '#engine/tensor/rotary.ts'
import { testedBackend } from '../../../../fixtures/tested-backend.ts'
import { expectClose, expectSamePlainly } from '../../../backend/plainly.ts'

const { fused, bf16 } = await openBackend(testedBackend)

const normal = <R extends Rank>(shape: number[], seed: number, deviation = 1) =>
  randomNormal<R>(shape as never, 0, deviation, 'float32', seed)

describe.skipIf(!fused)('fused backward passes of attention', () => {
  // Odd sizes: rows, keys and head sizes that do not fill a tile, windows that begin inside one, partly rotated heads, capped scores.
  test.each([
    { heads: 9, keyValueHeads: 3, headSize: 64, tokens: 200, samples: 2, window: 0, rotated: 64, cap: undefined },
    { heads: 4, keyValueHeads: 4, headSize: 8, tokens: 37, samples: 3, window: 0, rotated: 8, cap: 2 },
    { heads: 4, keyValueHeads: 2, headSize: 80, tokens: 150, samples: 1, window: 0, rotated: 32, cap: undefined },
    { heads: 6, keyValueHeads: 2, headSize: 24, tokens: 200, samples: 1, window: 70, rotated: 24, cap: 5 },
    { heads: 6, keyValueHeads: 2, headSize: 24, tokens: 129, samples: 1, window: 7, rotated: 24, cap: undefined },
    { heads: 1, keyValueHeads: 1, headSize: 4, tokens: 1, samples: 2, window: 0, rotated: 4, cap: undefined },
  ])('gradients of attention equal those step by step: %o', ({ heads, keyValueHeads, headSize, tokens, samples, window, rotated, cap }) => {
    const frequencies = () => ({ inverse: Float64Array.from({ length: rotated / 2 }, (_, i) => 1000 ** (-2 * (i / rotated))), scale: 1 })
    const backward = (products: Products) => {
      const tables = rotaryTables({ frequencies, size: rotated }, 0, tokens)
      const projected = normal<Rank.R2>([samples * tokens, (heads + 2 * keyValueHeads) * headSize], 1, 0.5)
      const gradient = normal<Rank.R2>([samples * tokens, heads * headSize], 2)
      return mixHeadsBackward(projected, tables, { heads, keyValueHeads, window, cap }, gradient, products)
    }
    expectSamePlainly(() => ({ projected: backward('float32') }))
    if (bf16) tidy(() => expectClose(backward('bfloat16'), backward('float32'), 0.02))
  })

  // A query, a key, or a score that overflows: the softmax alone would give such a key no weight, or all weight.
  const lost = [
    { at: 3, value: Number.NaN },
    { at: 8, value: Number.NaN },
    { at: 8, value: Number.POSITIVE_INFINITY },
    { at: 8, value: Number.NEGATIVE_INFINITY },
    { at: 8, value: 3e38 },
  ]
  test.each(lost.flatMap((one) => [undefined, 5].map((cap) => ({ ...one, cap }))))(
    '%o in queries or keys shows in what attention gives, and in their gradients',
    (call) => {
      const tables = rotaryTables({ frequencies: () => ({ inverse: Float64Array.of(1, 0.1, 0.01, 0.001), scale: 1 }), size: 8 }, 0, 40)
      const values = normal<Rank.R2>([40, 24], 1, 4).dataSync()
      values[30 * 24 + call.at] = call.value
      for (const products of bf16 ? (['float32', 'bfloat16'] as const) : (['float32'] as const)) {
        const projected = tensor2d(values, [40, 24])
        const shape = { heads: 1, keyValueHeads: 1, window: 0, cap: call.cap }
        const read = [projected, tables.cosine, tables.sine, shape] as const
        const mixed = products === 'float32' ? fused?.attention?.(...read) : bf16?.attention(...read, false)
        expect(mixed?.dataSync().some(Number.isNaN), `${products} forward`).toBe(true)
        const found = mixHeadsBackward(projected, tables, shape, normal<Rank.R2>([40, 8], 2), products)
        expect(found.dataSync().some(Number.isNaN), products).toBe(true)
      }
    },
  )
})
