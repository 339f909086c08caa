import {
  concat,
  memory,
  type Rank,
  randomNormal,
  slice,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tidy,
} from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { activeBackend, setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Past, SeenPositions } from '#engine/model/cache.ts'
import { type CallContext, runPart } from '#engine/model/decoder.ts'
import { runFusedPart } from '#engine/model/fused-part.ts'
import type { PartWeights } from '#engine/model/weights.ts'
import type { Activation } from '#engine/tensor/activation.ts'
import { project } from '#engine/tensor/products.ts'
import { rotaryTables } from '#engine/tensor/rotary.ts'

beforeAll(() => openBackend('tensorflow'))

const gauss = (shape: [number, number], seed: number): Tensor2D => randomNormal<Rank.R2>(shape, 0, 1 / Math.sqrt(shape[1]), 'float32', seed)
const vector = (size: number, seed: number): Tensor1D => randomNormal<Rank.R1>([size], 1, 0.3, 'float32', seed)

/** The same with the runtime's own operations. */
function plainly<T>(compute: () => T): T {
  const backend = activeBackend()
  const { fused: _, ...plain } = backend
  setActiveBackend(plain)
  try {
    return compute()
  } finally {
    setActiveBackend(backend)
  }
}

function expectClose(own: Tensor, expected: Tensor): void {
  expect(own.shape).toEqual(expected.shape)
  const [a, b] = [own.dataSync(), expected.dataSync()] as Float32Array[] as [Float32Array, Float32Array]
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0)
  expect(worst).toBeLessThanOrEqual(1e-5 * scale)
}

interface Case {
  readonly heads: number
  readonly keyValueHeads: number
  readonly headSize: number
  readonly rotated: number
  readonly window: number
  readonly samples: number
  readonly kind: 'rms' | 'layer'
  readonly biased: boolean
  /** Tokens of each call, one after the other. */
  readonly calls: readonly number[]
}

const base = { heads: 4, keyValueHeads: 2, headSize: 16, rotated: 16, window: 0, samples: 1, kind: 'rms', biased: false } as const
const cases: Case[] = [
  { ...base, heads: 9, keyValueHeads: 3, headSize: 64, rotated: 64, calls: [70, 1, 1, 3] },
  { ...base, samples: 3, biased: true, calls: [5, 1, 2, 1] },
  { ...base, headSize: 20, rotated: 8, kind: 'layer', biased: true, calls: [33, 1, 1] },
  { ...base, window: 6, samples: 2, calls: [11, 1, 1, 4] },
  { ...base, heads: 3, keyValueHeads: 1, headSize: 10, rotated: 10, window: 3, calls: [1, 1, 1, 1] },
  { ...base, heads: 2, keyValueHeads: 2, headSize: 128, rotated: 128, samples: 5, calls: [130, 1, 1] },
]

describe('attention after a cache equals attention over all positions at once', () => {
  test.each(cases)('%o', ({ heads, keyValueHeads, headSize, rotated, window, samples, kind, biased, calls }) => {
    const hidden = heads * headSize + 3
    const width = (heads + 2 * keyValueHeads) * headSize
    const spec = {
      heads,
      keyValueHeads,
      headSize,
      parallelResidual: false,
      slidingWindow: () => window || undefined,
    } as unknown as DecoderSpec
    const rotary = {
      size: rotated,
      frequencies: () => ({ inverse: Float64Array.from({ length: rotated / 2 }, (_, i) => 0.9 ** i), scale: 1 }),
    }
    const total = calls.reduce((sum, tokens) => sum + tokens, 0)
    const cache = new Map<number, SeenPositions>()
    const before = memory().numTensors
    tidy(() => {
      const attention = {
        norm: { kind, epsilon: 1e-5, weight: vector(hidden, 1), ...(biased ? { bias: vector(hidden, 2) } : {}) },
        queryKeyValue: gauss([width, hidden], 3),
        output: gauss([hidden, heads * headSize], 4),
        ...(biased ? { queryKeyValueBias: vector(width, 5), outputBias: vector(hidden, 6) } : {}),
      }
      const weights: PartWeights = { attention }
      const sequences = Array.from({ length: samples }, (_, sample) => randomNormal<Rank.R2>([total, hidden], 0, 1, 'float32', 10 + sample))
      const rows = (x: Tensor2D, first: number, count: number): Tensor2D => slice(x, [first, 0], [count, -1])
      const whole = sequences.map((x) =>
        plainly(() => {
          const tables = rotaryTables(rotary, 0, total)
          return runPart(0, weights, { x, source: x }, { spec, batch: 1, tokens: total, rotary: () => tables })
        }),
      )
      let length = 0
      for (const tokens of calls) {
        const tables = rotaryTables(rotary, length, tokens)
        const past: Past = { length, place: tensor1d([length, samples], 'int32'), cache }
        const call: CallContext = { spec, batch: samples, tokens, rotary: () => tables, past }
        const x = concat(sequences.map((one) => rows(one, length, tokens)))
        const residual = { x, source: x }
        const fused = runFusedPart(0, weights, residual, call)
        expect(fused !== undefined, 'few rows are one operation').toBe(samples * tokens <= 16)
        const own = fused ?? runPart(0, weights, residual, call)
        for (const [sample, expected] of whole.entries()) expectClose(rows(own, sample * tokens, tokens), rows(expected, length, tokens))
        length += tokens
      }
    })
    for (const { key, value } of cache.values()) {
      key.dispose()
      value.dispose()
    }
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })
})

describe('an MLP as one operation equals the step-by-step one', () => {
  test.each(
    (['silu', 'gelu', 'gelu_tanh', 'relu'] as const).flatMap((activation: Activation) =>
      [true, false].flatMap((gated) => [
        { activation, gated, biased: false, hidden: 64, neurons: 100, rows: 1, parallel: false },
        { activation, gated, biased: true, hidden: 37, neurons: 51, rows: 7, parallel: true },
        { activation, gated, biased: true, hidden: 5, neurons: 3, rows: 16, parallel: false },
      ]),
    ),
  )('%o', ({ activation, gated, biased, hidden, neurons, rows, parallel }) => {
    tidy(() => {
      const mlp = {
        norm: { kind: 'rms' as const, epsilon: 1e-5, weight: vector(hidden, 1) },
        ...(gated ? { gate: gauss([neurons, hidden], 2) } : {}),
        up: gauss([neurons, hidden], 3),
        down: gauss([hidden, neurons], 4),
        ...(biased ? { upBias: vector(neurons, 5), downBias: vector(hidden, 6), ...(gated ? { gateBias: vector(neurons, 7) } : {}) } : {}),
      }
      const spec = { activation, parallelResidual: parallel, residualScale: biased ? 0.7 : undefined } as unknown as DecoderSpec
      const x = randomNormal<Rank.R2>([rows, hidden], 0, 1, 'float32', 8)
      const residual = { x, source: randomNormal<Rank.R2>([rows, hidden], 0, 1, 'float32', 9) }
      const past: Past = { length: 3, place: tensor1d([3, 1], 'int32'), cache: new Map() }
      const call: CallContext = {
        spec,
        batch: 1,
        tokens: rows,
        rotary: () => rotaryTables({ size: 2, frequencies: () => ({ inverse: new Float64Array(1), scale: 1 }) }, 3, rows),
        past,
      }
      const own = runFusedPart(1, { mlp }, residual, call)
      expect(own).toBeDefined()
      expectClose(
        own as Tensor2D,
        plainly(() => runPart(1, { mlp }, residual, call)),
      )
    })
  })
})

describe('a product of few rows equals the plain one', () => {
  test.each([
    [1, 576, 1536],
    [3, 37, 41],
    [16, 16, 4],
    [5, 1, 3],
    [4, 1000, 7],
  ])('%i rows of %i onto %i', (rows, depth, columns) => {
    tidy(() => {
      const [x, weight, bias] = [gauss([rows, depth], 1), gauss([columns, depth], 2), vector(columns, 3)]
      for (const own of [undefined, bias])
        expectClose(
          project(x, weight, own),
          plainly(() => project(x, weight, own)),
        )
    })
  })
})
