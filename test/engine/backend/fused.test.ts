import { add, type Rank, randomNormal, reshape, slice, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { FusedOperations } from '#engine/backend/fused.ts'
import { runPart } from '#engine/model/decoder.ts'
import { compareLogits } from '#engine/model/parts/head/token-losses.ts'
import type { CallContext } from '#engine/model/parts/part.ts'
import { gateNeurons } from '#engine/tensor/activation.ts'
import { normalize } from '#engine/tensor/norm.ts'
import { type Rotary, rotaryTables } from '#engine/tensor/rotary.ts'
import { rowDistances } from '#engine/tensor/sums.ts'
import { expectClose, plainly } from './plainly.ts'

const backend = await openBackend('tensorflow')

// A GPU does not use them. On a CPU, missing ones mean that set-up failed, which this test must show.
describe.skipIf(backend.name === 'tensorflow-gpu')('fused operations', () => {
  const fused = backend.fused as FusedOperations

  test('all of them are there', () => {
    const names = [
      'attention',
      'normalize',
      'normalizeBackward',
      'neuronsBackward',
      'attentionBackward',
      'gate',
      'exponents',
      'compareLogits',
      'distance',
      'columnSums',
      'projectFew',
      'attendPlaced',
      'decode',
    ]
    const missing = names.filter((name) => !fused || !(name in fused))
    expect(missing).toEqual([])
  })

  // Odd sizes: rows, keys and head sizes that do not fill a tile, windows that begin inside one, heads that are partly rotated.
  test.each([
    { heads: 9, keyValueHeads: 3, headSize: 64, tokens: 700, samples: 1, window: 0, rotated: 64 },
    { heads: 4, keyValueHeads: 4, headSize: 8, tokens: 37, samples: 3, window: 0, rotated: 8 },
    { heads: 4, keyValueHeads: 2, headSize: 80, tokens: 300, samples: 1, window: 0, rotated: 32 },
    { heads: 2, keyValueHeads: 1, headSize: 128, tokens: 500, samples: 2, window: 100, rotated: 128 },
    { heads: 6, keyValueHeads: 2, headSize: 24, tokens: 129, samples: 1, window: 7, rotated: 24 },
    { heads: 1, keyValueHeads: 1, headSize: 4, tokens: 1, samples: 2, window: 0, rotated: 4 },
  ])('attention equals the step-by-step one: %o', ({ heads, keyValueHeads, headSize, tokens, samples, window, rotated }) => {
    const hidden = heads * headSize
    const rows = (heads + 2 * keyValueHeads) * headSize
    const spec = {
      heads,
      keyValueHeads,
      headSize,
      parallelResidual: false,
      slidingWindow: () => window || undefined,
    } as unknown as DecoderSpec
    const frequencies = () => ({ inverse: Float32Array.from({ length: rotated / 2 }, (_, i) => 1000 ** (-2 * (i / rotated))), scale: 1 })
    tidy(() => {
      const rotary = rotaryTables({ frequencies, size: rotated } as unknown as Rotary, 0, tokens)
      const x = randomNormal<Rank.R2>([samples * tokens, hidden], 0, 1, 'float32', 7)
      const attention = {
        norm: { epsilon: 1e-5, kind: 'rms' as const },
        queryKeyValue: randomNormal<Rank.R2>([rows, hidden], 0, 1 / Math.sqrt(hidden), 'float32', 8),
        output: randomNormal<Rank.R2>([hidden, hidden], 0, 1 / Math.sqrt(hidden), 'float32', 9),
      }
      const call: CallContext = { spec, batch: samples, tokens, rotary: () => rotary }
      const run = () => runPart(0, { attention }, { x, source: x }, call)
      expectClose(run(), plainly(run))
    })
  })

  test('attention of a sample does not depend on the other samples, bit for bit', () => {
    tidy(() => {
      const shape = { heads: 3, keyValueHeads: 1, window: 0 }
      const projected = randomNormal<Rank.R2>([2 * 90, 5 * 16], 0, 1, 'float32', 3)
      const tables = [randomNormal<Rank.R2>([90, 8]), randomNormal<Rank.R2>([90, 8])] as const
      const both = fused.attention(projected, ...tables, shape)
      const second = fused.attention(slice(projected, [90, 0], [90, -1]), ...tables, shape)
      expect(slice(both, [90, 0], [90, -1]).dataSync()).toEqual(second.dataSync())
    })
  })

  test('scores far from zero neither overflow nor vanish', () => {
    tidy(() => {
      const tables = [tensor2d(new Float32Array(64).fill(1), [64, 1]), tensor2d(new Float32Array(64), [64, 1])] as const
      const projected = tensor2d(
        Float32Array.from({ length: 64 * 6 }, (_, i) => (i % 6 < 4 ? 30 * ((Math.floor(i / 6) % 5) - 2) : i % 6)),
        [64, 6],
      )
      const mixed = fused.attention(projected, ...tables, { heads: 1, keyValueHeads: 1, window: 0 }).dataSync()
      // Every value is [4, 5], so their mean is too, whatever the weights are.
      for (const [i, value] of mixed.entries()) expect(value).toBeCloseTo(4 + (i % 2), 4)
    })
  })

  test.each([
    { kind: 'rms' as const, weighted: true, biased: false, divisor: undefined },
    { kind: 'rms' as const, weighted: false, biased: false, divisor: 100 },
    { kind: 'layer' as const, weighted: true, biased: true, divisor: undefined },
  ])('a norm equals the step-by-step one: %o', ({ kind, weighted, biased, divisor }) => {
    tidy(() => {
      const x = randomNormal<Rank.R2>([130, 75], 0.5, 2, 'float32', 1)
      const vector = (seed: number) => reshape<Rank.R1>(randomNormal([75], 0, 1, 'float32', seed), [75])
      const norm = {
        kind,
        epsilon: 1e-5,
        ...(divisor ? { divisor } : {}),
        ...(weighted ? { weight: vector(2) } : {}),
        ...(biased ? { bias: vector(3) } : {}),
      }
      expectClose(
        normalize(x, norm),
        plainly(() => normalize(x, norm)),
        2e-6,
      )
    })
  })

  test('gated neurons equal the step-by-step ones, from the smallest gate to the largest', () => {
    tidy(() => {
      const gate = tensor2d(
        Float32Array.from({ length: 3 * 67 }, (_, i) => (i - 100) * 1.3),
        [3, 67],
      )
      const up = randomNormal<Rank.R2>([3, 67], 0, 1, 'float32', 5)
      expectClose(
        gateNeurons(gate, up, 'silu'),
        plainly(() => gateNeurons(gate, up, 'silu')),
        1e-6,
      )
    })
  })

  // Sizes that do not fill a vector or a block of the search for the maximum; logits far from zero; equal logits.
  test.each([3, 77, 1003])('comparisons of %i logits are the step-by-step ones', (size) => {
    tidy(() => {
      const matrix = (seed: number, scale: number) => {
        const drawn = randomNormal<Rank.R2>([9, size], 0, scale, 'float32', seed).dataSync()
        return tensor2d(
          drawn.map((value, i) => Math.round(value * 8) / 8 + (i < size ? 300 : -300)),
          [9, size],
        )
      }
      const [dense, own] = [matrix(1, 3), matrix(2, 2)]
      const [fast, plain] = [compareLogits(dense, own, 3), plainly(() => compareLogits(dense, own, 3))]
      expect(Array.from(fast.columns)).toEqual(Array.from(plain.columns))
      expect(Array.from(fast.highest)).toEqual(Array.from(plain.highest))
      for (const name of ['denseLog', 'ownLog', 'shift'] as const) {
        for (let row = 0; row < 9; row++) {
          const value = plain[name][row] ?? Number.NaN
          expect(Math.abs((fast[name][row] ?? Number.NaN) - value)).toBeLessThan(1e-5 * Math.max(1, Math.abs(value)))
        }
      }
      const [same, copied] = [compareLogits(own, own, 3), compareLogits(own, add(own, 0), 3)]
      expect(same.ownLog).toEqual(fast.ownLog)
      // Compared with itself, or with a copy of its logits, a model has no divergence.
      for (const { shift, denseLog, ownLog } of [same, copied]) {
        expect(Math.max(...Array.from(shift, Math.abs))).toBe(0)
        expect(denseLog).toEqual(ownLog)
      }
    })
  })

  test('distances of rows equal the step-by-step ones, and are zero for equal rows', () => {
    tidy(() => {
      const [a, b] = [1, 2].map((seed) => randomNormal<Rank.R2>([70, 131], 0.3, 1, 'float32', seed)) as [Tensor2D, Tensor2D]
      const [fast, plain] = [rowDistances(a, b), plainly(() => rowDistances(a, b))]
      expect(fast.error / plain.error).toBeCloseTo(1, 6)
      expect(fast.cosine / plain.cosine).toBeCloseTo(1, 5)
      expect(rowDistances(a, a).error).toBe(0)
      expect(rowDistances(a, a).cosine).toBeCloseTo(70, 4)
    })
  })

  test.each([true, false])('column sums are those of float64 (squared: %s)', (squared) => {
    const [samples, tokens, columns] = [2, 70, 300]
    tidy(() => {
      const x: Tensor2D = randomNormal([samples * tokens, columns], 0, 1, 'float32', 4)
      const values = x.dataSync()
      const sums = fused.columnSums(x, tokens, squared).dataSync()
      for (let i = 0; i < samples * columns; i++) {
        let expected = 0
        for (let row = 0; row < tokens; row++) {
          const value = values[(Math.floor(i / columns) * tokens + row) * columns + (i % columns)] ?? 0
          expected += squared ? value * value : Math.abs(value)
        }
        expect(Math.abs((sums[i] ?? 0) - expected)).toBeLessThan(1e-6 * expected)
      }
    })
  })

  test('shapes that do not fit are refused with a sentence, and nothing is read', () => {
    tidy(() => {
      const tables = [tensor2d([1, 1], [1, 2]), tensor2d([0, 0], [1, 2])] as const
      const refused = () => fused.attention(tensor2d([1, 2, 3], [1, 3]), ...tables, { heads: 2, keyValueHeads: 2, window: 0 })
      expect(refused).toThrow('do not fit the heads')
    })
  })
})
