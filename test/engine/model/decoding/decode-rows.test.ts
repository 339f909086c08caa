import {
  concat,
  gather,
  memory,
  type Rank,
  randomNormal,
  slice,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tensor2d,
  tidy,
} from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Bf16Ops } from '#engine/backend/bf16-ops.ts'
import type { FusedOperations, PlacedRows } from '#engine/backend/fused.ts'
import { runPart } from '#engine/model/decoder.ts'
import { DecodeParts } from '#engine/model/decoding/decode-rows.ts'
import { KeyValueSlots, Past, placeRows } from '#engine/model/parts/attention/cache.ts'
import type { Activation } from '#engine/tensor/activation.ts'
import { type Matrix, project } from '#engine/tensor/products.ts'
import { rotaryTables } from '#engine/tensor/rotary.ts'
import { expectClose, plainly } from '../../backend/plainly.ts'

const { bf16 } = await openBackend('tensorflow')

const gauss = (shape: [number, number], seed: number): Tensor2D => randomNormal<Rank.R2>(shape, 0, 1 / Math.sqrt(shape[1]), 'float32', seed)
const vector = (size: number, seed: number): Tensor1D => randomNormal<Rank.R1>([size], 1, 0.3, 'float32', seed)

interface Case {
  readonly heads: number
  readonly keyValueHeads: number
  readonly headSize: number
  readonly rotated: number
  readonly window: number
  readonly cap: number | undefined
  readonly kind: 'rms' | 'layer'
  readonly biased: boolean
  /** Norms of queries and keys: for each head, over all heads, or none. */
  readonly headNorms: 'each' | 'all' | undefined
  readonly gatedQueries: boolean
  /** Norms before and after the submodule. */
  readonly norms: 'before' | 'after' | 'both'
  readonly scale: number | undefined
  /** The number of tokens of each sequence in each call; sequences that a call leaves out have 0. */
  readonly calls: readonly (readonly number[])[]
}

const base: Case = {
  heads: 4,
  keyValueHeads: 2,
  headSize: 16,
  rotated: 16,
  window: 0,
  cap: undefined,
  kind: 'rms',
  biased: false,
  headNorms: undefined,
  gatedQueries: false,
  norms: 'before',
  scale: undefined,
  calls: [[5], [1], [1], [3]],
}
const cases: Case[] = [
  { ...base, heads: 9, keyValueHeads: 3, headSize: 64, rotated: 64, calls: [[70], [1], [1], [3]] },
  {
    ...base,
    biased: true,
    calls: [
      [5, 5, 5],
      [1, 1, 1],
      [2, 2, 2],
      [1, 1, 1],
    ],
  },
  { ...base, headSize: 20, rotated: 8, kind: 'layer', biased: true, calls: [[33], [1], [1]] },
  {
    ...base,
    window: 6,
    calls: [
      [11, 4],
      [1, 1],
      [1, 3],
      [4, 2],
    ],
  },
  { ...base, heads: 3, keyValueHeads: 1, headSize: 10, rotated: 10, window: 3, calls: [[1], [1], [1], [1]] },
  {
    ...base,
    heads: 2,
    headSize: 128,
    rotated: 128,
    calls: [
      [130, 7, 1, 60, 3],
      [1, 1, 1, 1, 1],
      [1, 2, 1, 3, 1],
    ],
  },
  {
    ...base,
    headNorms: 'each',
    norms: 'both',
    cap: 3,
    scale: 0.3,
    calls: [
      [20, 2],
      [1, 1],
      [2, 5],
    ],
  },
  { ...base, headNorms: 'all', norms: 'after', calls: [[2], [17], [1]] },
  { ...base, heads: 6, keyValueHeads: 3, headSize: 12, rotated: 4, headNorms: 'each', gatedQueries: true, calls: [[3], [1], [30], [2]] },
  {
    ...base,
    window: 40,
    cap: 20,
    calls: [
      [100, 9, 50],
      [50, 1, 2],
      [1, 1, 1],
      [1, 2, 3],
    ],
  },
]

const size = (sequences: readonly number[]): number => sequences.reduce((sum, tokens) => sum + tokens, 0)

function attentionOf({ heads, keyValueHeads, headSize, kind, biased, headNorms, gatedQueries, norms }: Case, hidden: number) {
  const width = ((gatedQueries ? 2 : 1) * heads + 2 * keyValueHeads) * headSize
  const norm = (seed: number, length = hidden) => ({
    kind,
    epsilon: 1e-5,
    weight: vector(length, seed),
    ...(biased ? { bias: vector(length, seed + 1) } : {}),
  })
  const headNorm = (seed: number, count: number) => ({
    kind: 'rms' as const,
    epsilon: 1e-6,
    weight: vector(headNorms === 'all' ? count * headSize : headSize, seed),
  })
  return {
    ...(norms === 'after' ? {} : { norm: norm(1) }),
    ...(norms === 'before' ? {} : { outputNorm: norm(11) }),
    ...(headNorms ? { queryNorm: headNorm(13, heads), keyNorm: headNorm(14, keyValueHeads) } : {}),
    queryKeyValue: gauss([width, hidden], 3),
    output: gauss([hidden, heads * headSize], 4),
    ...(biased ? { queryKeyValueBias: vector(width, 5), outputBias: vector(hidden, 6) } : {}),
  }
}

describe('attention of rows of several sequences equals attention over all positions at once', () => {
  test.each(cases)('%o', (one) => {
    const { heads, keyValueHeads, headSize, rotated, window, cap, gatedQueries, scale, calls } = one
    const hidden = heads * headSize + 3
    const spec = {
      heads,
      keyValueHeads,
      headSize,
      gatedQueries,
      scoreCap: cap,
      residualScale: scale,
      parallelResidual: false,
      slidingWindow: () => window || undefined,
    } as unknown as DecoderSpec
    const rotary = {
      size: rotated,
      frequencies: () => ({ inverse: Float64Array.from({ length: rotated / 2 }, (_, i) => 0.9 ** i), scale: 1 }),
    }
    const cache = new KeyValueSlots(spec)
    const slots = (calls[0] ?? []).map((): number[] => [])
    const before = memory().numTensors
    tidy(() => {
      const attention = attentionOf(one, hidden)
      const totals = slots.map((_, sequence) => calls.reduce((sum, call) => sum + (call[sequence] ?? 0), 0))
      const sequences = totals.map((total, sequence) => randomNormal<Rank.R2>([total, hidden], 0, 1, 'float32', 20 + sequence))
      const rows = (x: Tensor2D, first: number, count: number): Tensor2D => slice(x, [first, 0], [count, -1])
      const whole = sequences.map((x) =>
        plainly(() => {
          const tables = rotaryTables(rotary, 0, x.shape[0])
          return runPart(0, { attention }, { x, source: x }, { spec, batch: 1, tokens: x.shape[0], rotary: () => tables })
        }),
      )
      for (const call of calls) {
        const placed = call.map((tokens, sequence) => {
          const own = slots[sequence] as number[]
          own.push(...cache.take(tokens))
          return { slots: [...own], tokens }
        })
        const past = new Past(placed, cache, new Map())
        const tables = past.tables(rotary)
        const starts = placed.map((own) => own.slots.length - own.tokens)
        const x = concat(call.map((tokens, sequence) => rows(sequences[sequence] as Tensor2D, starts[sequence] as number, tokens)))
        const check = (result: Tensor2D) => {
          let first = 0
          for (const [sequence, tokens] of call.entries()) {
            expectClose(rows(result, first, tokens), rows(whole[sequence] as Tensor2D, starts[sequence] as number, tokens))
            first += tokens
          }
        }
        // Each variant writes the same positions again.
        check(runPart(0, { attention }, { x, source: x }, { spec, batch: 1, tokens: size(call), rotary: () => tables, past }))
        const parts = new DecodeParts()
        const all = Array.from({ length: size(call) }, (_, row) => row)
        const step = {
          rows: all,
          hidden,
          scale: scale ?? 1,
          keepsSource: false,
          block: 0,
          window,
          tables,
          caches: all.map(() => cache.of(0)),
        }
        parts.addAttention(attention, step)
        check(decode(x, parts, past, spec))
        past.dispose()
      }
    })
    cache.dispose()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })
})

function decode(x: Tensor2D, parts: DecodeParts, placed: PlacedRows, spec: DecoderSpec): Tensor2D {
  const { heads, keyValueHeads, headSize, activation = 'silu', gatedQueries = false, scoreCap: cap = 0 } = spec
  return (activeBackend().fused as FusedOperations).decode(x, parts, placed, {
    heads,
    keyValueHeads,
    headSize,
    activation,
    gatedQueries,
    cap,
  })
}

describe('an MLP of few rows equals the step-by-step one', () => {
  test.each(
    (['silu', 'gelu', 'gelu_tanh', 'relu'] as const)
      .flatMap((activation: Activation) =>
        [true, false].flatMap((gated) => [
          { activation, gated, biased: false, hidden: 64, neurons: 100, rows: 1, packed: false, after: false },
          { activation, gated, biased: true, hidden: 37, neurons: 51, rows: 7, packed: false, after: true },
          { activation, gated, biased: true, hidden: 5, neurons: 3, rows: 16, packed: false, after: false },
          { activation, gated, biased: true, hidden: 70, neurons: 101, rows: 5, packed: true, after: true },
          { activation, gated, biased: false, hidden: 32, neurons: 7, rows: 1, packed: true, after: false },
        ]),
      )
      .filter(({ packed }) => bf16 || !packed),
  )('%o', ({ activation, gated, biased, hidden, neurons, rows, packed, after }) => {
    tidy(() => {
      const weight = packed ? roundedGauss : gauss
      const mlp = {
        norm: { kind: 'rms' as const, epsilon: 1e-5, weight: vector(hidden, 1) },
        ...(after ? { outputNorm: { kind: 'layer' as const, epsilon: 1e-5, weight: vector(hidden, 12) } } : {}),
        ...(gated ? { gate: weight([neurons, hidden], 2) } : {}),
        up: weight([neurons, hidden], 3),
        down: weight([hidden, neurons], 4),
        ...(biased ? { upBias: vector(neurons, 5), downBias: vector(hidden, 6), ...(gated ? { gateBias: vector(neurons, 7) } : {}) } : {}),
      }
      const scale = biased ? 0.7 : 1
      const spec = { activation, residualScale: scale, heads: 1, keyValueHeads: 1, headSize: 2 } as unknown as DecoderSpec
      const x = randomNormal<Rank.R2>([rows, hidden], 0, 1, 'float32', 8)
      const expected = plainly(() =>
        runPart(1, { mlp }, { x, source: x }, { spec, batch: 1, tokens: rows, rotary: () => undefined as never }),
      )
      const parts = new DecodeParts()
      const pack = (one: Tensor2D): Matrix => (packed ? (bf16 as Bf16Ops).pack(one, 1) : one)
      const { gate, up, down, ...rest } = mlp
      // Only some rows, in another order. The others stay unchanged.
      const own = Array.from({ length: rows }, (_, row) => rows - 1 - row).filter((row) => rows === 1 || row !== 2)
      parts.addMlp(
        { ...rest, ...(gate ? { gate: pack(gate) } : {}), up: pack(up), down: pack(down) },
        { rows: own, hidden, scale, keepsSource: false },
      )
      const placed = placeRows(Array.from({ length: rows }, () => ({ slots: [0], tokens: 1 })))
      const result = decode(x, parts, placed, spec)
      for (let row = 0; row < rows; row++)
        expectClose(slice(result, [row, 0], [1, -1]), slice(own.includes(row) ? expected : x, [row, 0], [1, -1]))
    })
  })
})

/** Values that 16 bits hold exactly. */
function roundedGauss(shape: [number, number], seed: number): Tensor2D {
  const values = Float32Array.from(gauss(shape, seed).dataSync())
  const words = new Uint32Array(values.buffer)
  for (let i = 0; i < words.length; i++) words[i] = ((words[i] as number) & 0xffff0000) >>> 0
  return tensor2d(values, shape)
}

test('rows with neurons removed by a mask equal rows with the others alone', () => {
  tidy(() => {
    const [hidden, neurons] = [37, 51]
    const mlp = {
      norm: { kind: 'rms' as const, epsilon: 1e-5, weight: vector(hidden, 1) },
      gate: gauss([neurons, hidden], 2),
      up: gauss([neurons, hidden], 3),
      down: gauss([hidden, neurons], 4),
    }
    const spec = { activation: 'silu', heads: 1, keyValueHeads: 1, headSize: 2 } as unknown as DecoderSpec
    const kept = Array.from({ length: neurons }, (_, neuron) => neuron).filter((neuron) => neuron % 3 !== 1)
    const indices = tensor1d(kept, 'int32')
    const gathered = { ...mlp, gate: gather(mlp.gate, indices), up: gather(mlp.up, indices), down: gather(mlp.down, indices, 1) }
    const mask = tensor1d(Float32Array.from({ length: neurons }, (_, neuron) => Number(neuron % 3 !== 1)))
    const x = randomNormal<Rank.R2>([3, hidden], 0, 1, 'float32', 8)
    const parts = new DecodeParts()
    parts.addMlp(mlp, { rows: [0, 1, 2], hidden, scale: 1, keepsSource: false, masks: [mask, undefined, mask] })
    const own = decode(x, parts, placeRows([0, 1, 2].map(() => ({ slots: [0], tokens: 1 }))), spec)
    const run = (weights: typeof mlp) =>
      plainly(() => runPart(1, { mlp: weights }, { x, source: x }, { spec, batch: 1, tokens: 3, rotary: () => undefined as never }))
    for (const row of [0, 1, 2]) expectClose(slice(own, [row, 0], [1, -1]), slice(run(row === 1 ? mlp : gathered), [row, 0], [1, -1]))
  })
})

test('rows, slots and weights that do not fit are refused with a sentence', () => {
  tidy(() => {
    const spec = { heads: 1, keyValueHeads: 1, headSize: 2, activation: 'silu' } as unknown as DecoderSpec
    const mlp = { up: gauss([4, 3], 1), down: gauss([3, 5], 2) }
    const parts = new DecodeParts()
    parts.addMlp(mlp, { rows: [0], hidden: 3, scale: 1, keepsSource: false })
    const x = gauss([1, 3], 3)
    expect(() => decode(x, parts, placeRows([{ slots: [0], tokens: 1 }]), spec)).toThrow('do not fit the rows')
    const beyond = { rows: tensor2d(Int32Array.of(0, 4), [1, 2]), slots: tensor1d(Int32Array.of(0)) }
    expect(() => decode(x, new DecodeParts(), beyond, spec)).toThrow('do not fit')
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
