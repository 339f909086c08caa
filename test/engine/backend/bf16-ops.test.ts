import {
  add as addTo,
  concat,
  div,
  floor,
  keep,
  matMul,
  mul,
  oneHot,
  type Rank,
  randomNormal,
  range,
  reshape,
  slice,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tanh,
  tensor1d,
  tensor2d,
  tensor3d,
  tidy,
  tile,
} from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { Backend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { AttentionShape, Bf16Ops, NativeBf16Ops, SixteenBitType } from '#engine/backend/bf16-ops.ts'
import type { FusedOperations } from '#engine/backend/fused.ts'
import { TensorflowProducts } from '#engine/backend/tensorflow.ts'
import { runPart } from '#engine/model/decoder.ts'
import { attendInBf16 } from '#engine/model/parts/attention/attention.ts'
import { logSumExponents } from '#engine/model/parts/head/token-losses.ts'
import type { CallContext, Residual } from '#engine/model/parts/part.ts'
import { roundTo } from '#engine/model/weights/unpack.ts'
import { ComposedBf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { rotaryTables } from '#engine/tensor/rotary.ts'
import { lacksAvx512, processorFeatures, runtimeTypes } from '../../fixtures/processor-features.ts'
import { asOnGpu, computeWith } from './as-on-gpu.ts'

const backend = await openBackend('tensorflow')
const fused = backend.fused as FusedOperations
const expectedUnits = /\bamx_bf16\b/.test(processorFeatures)
  ? 'AMX'
  : /\bavx512_bf16\b/.test(processorFeatures)
    ? 'AVX-512 BF16'
    : undefined

/** How far an operation may deviate from the plain one, relative to its largest entry: bfloat16 has 8 bits, two of them 16. */
const tolerances = { bfloat16: lacksAvx512 ? 1.2e-2 : 1e-2, split: 3e-5, exact: 1e-5, thirds: 2e-6 }
const kinds = [
  { precision: 'bfloat16', parts: 1 },
  { precision: 'split', parts: 2 },
  { precision: 'exact', parts: 2 },
  { precision: 'thirds', parts: 3 },
] as const
type Kind = (typeof kinds)[number]

/** A weight, with 16-bit entries where that loses nothing. */
const weightFor = (kind: Pick<Kind, 'precision'>, weight: Tensor2D): Tensor2D =>
  kind.precision === 'exact' || kind.precision === 'thirds' ? roundTo(weight, 'BF16') : weight

const normal = <R extends Rank>(shape: number[], seed: number, deviation = 1) =>
  randomNormal<R>(shape as never, 0, deviation, 'float32', seed)

function expectClose(own: Tensor, expected: Tensor, tolerance: number): void {
  expect(own.shape).toEqual(expected.shape)
  const [a, b] = [own.dataSync(), expected.dataSync()] as Float32Array[] as [Float32Array, Float32Array]
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0)
  expect(worst / scale).toBeLessThan(tolerance)
}

test.skipIf(backend.name === 'tensorflow-gpu')('a processor with units for 16-bit operands has the operations for them', () => {
  expect(backend.bf16?.units).toBe(expectedUnits)
})

interface Implementation {
  readonly bf16: Bf16Ops
  /** The backend that they belong to. */
  readonly backend: Backend
  readonly kinds: readonly Kind[]
}

/** Our own: the best units and, if those are AMX, also the vectors used on a processor without it. */
const own = [...Array(backend.bf16?.number ?? 0).keys()].flatMap((unit): Implementation[] => {
  const bf16 = backend.bf16?.on(unit + 1)
  return bf16 ? [{ bf16, backend, kinds }] : []
})

/** TensorFlow's, as on a GPU. They have no split operands. */
const ofRuntime = (runtimeTypes satisfies readonly SixteenBitType[]).map(
  (type): Implementation => ({ bf16: new ComposedBf16Ops(new TensorflowProducts(type)), backend: asOnGpu(type), kinds: [kinds[0]] }),
)

describe.each([...own, ...ofRuntime].map((one) => [one.bf16.units, one] as const))(
  'operations with 16-bit operands by %s',
  (_units, { bf16, kinds, ...implementation }) => {
    computeWith(implementation.backend)
    const plainCall = (spec: object): CallContext =>
      ({ spec: { parallelResidual: false, ...spec }, batch: 1, tokens: 1, rotary: () => undefined }) as unknown as CallContext
    const streamOf = (x: Tensor2D): Residual => ({ x, source: x })

    // Rows, columns and depths that do not fill a tile, single ones, and more rows than a block holds.
    const sizes = [
      [1, 1, 1],
      [3, 17, 31],
      [33, 64, 96],
      [47, 100, 33],
      [300, 70, 130],
      [1030, 33, 64],
    ] as const

    test.each(kinds.flatMap((kind) => sizes.map((size) => ({ ...kind, size }))))('a product with all that goes with it: %o', (kind) => {
      const [rows, columns, depth] = kind.size
      tidy(() => {
        const [x, weight] = [normal<Rank.R2>([rows, depth], 1), weightFor(kind, normal<Rank.R2>([columns, depth], 2))]
        const [bias, add] = [normal<Rank.R1>([columns], 3), normal<Rank.R2>([rows, columns], 4)]
        const norm = { epsilon: 1e-5, divisor: depth, centred: rows % 2 === 1 && depth > 1, weight: normal<Rank.R1>([depth], 5) }
        const packed = bf16.pack(weight, kind.parts)
        const plain = matMul(x, weight, false, true)
        expectClose(bf16.product(x, packed), plain, tolerances[kind.precision])
        const biased = bf16.product(x, packed, { bias, add, scale: 0.5 })
        expectClose(biased, addTo(mul(addTo(plain, bias), 0.5), add), tolerances[kind.precision])
        const normed = matMul(fused.normalize(x, norm.weight, undefined, norm), weight, false, true)
        expectClose(bf16.product(x, packed, { norm }), normed, tolerances[kind.precision])
      })
    })

    // 64 to 4,096 terms, rows of one size and rows with a few entries far above the others, as streams have.
    test.skipIf(bf16.units !== 'AMX').each([
      { depth: 64, above: 1 },
      { depth: 576, above: 1 },
      { depth: 576, above: 1000 },
      { depth: 1536, above: 100 },
      { depth: 4096, above: 1 },
      { depth: 14336, above: 10 },
    ])('products of rows in three parts are no further from float64 than float32: %o', ({ depth, above }) => {
      const [rows, columns] = [48, 96]
      tidy(() => {
        const weight = roundTo(normal<Rank.R2>([columns, depth], 2, 1 / Math.sqrt(depth)), 'BF16')
        const x = mul<Tensor2D>(
          normal<Rank.R2>([rows, depth], 1),
          tensor1d(Array.from({ length: depth }, (_, i) => (i % 50 === 7 ? above : 1))),
        )
        const [a, b] = [x.dataSync(), weight.dataSync()]
        const exact = Float64Array.from({ length: rows * columns }, (_, at) => {
          const [row, column] = [Math.floor(at / columns), at % columns]
          let sum = 0
          for (let i = 0; i < depth; i++) sum += Number(a[row * depth + i]) * Number(b[column * depth + i])
          return sum
        })
        const errors = (own: Tensor2D) => {
          const distances = Float64Array.from(own.dataSync(), (value, at) => Math.abs(value - (exact[at] as number)))
          return { most: distances.reduce((most, one) => Math.max(most, one), 0), sum: distances.reduce((sum, one) => sum + one, 0) }
        }
        const [thirds, plain] = [errors(bf16.product(x, bf16.pack(weight, 3))), errors(matMul(x, weight, false, true))]
        expect(thirds.most).toBeLessThanOrEqual(plain.most)
        expect(thirds.sum).toBeLessThanOrEqual(plain.sum)
      })
    })

    test('only a weight of bfloat16 numbers is exact', () => {
      tidy(() => {
        const weight = normal<Rank.R2>([300, 2000], 1)
        expect(bf16.isExact(weight)).toBe(false)
        const rounded = roundTo(weight, 'BF16')
        expect(bf16.isExact(rounded)).toBe(kinds.length > 1)
        const almost = rounded.dataSync().slice()
        almost[599_999] = 1.001
        expect(bf16.isExact(tensor2d(almost, [300, 2000]))).toBe(false)
      })
    })

    // Like queries of heads of 128: the factor is no power of two, and its rows do not fill a tile.
    test.skipIf(kinds.length === 1).each(sizes)('a weight whose first rows have a factor: %o by %o, %o deep', (rows, columns, depth) => {
      const factor = { rows: Math.ceil(0.6 * columns), by: 128 ** -0.5 }
      tidy(() => {
        const [x, stored] = [normal<Rank.R2>([rows, depth], 1), roundTo(normal<Rank.R2>([columns, depth], 2), 'BF16')]
        const factors = tensor2d(
          Array.from({ length: columns }, (_, row) => (row < factor.rows ? factor.by : 1)),
          [columns, 1],
        )
        const [weight, bias] = [mul<Tensor2D>(stored, factors), normal<Rank.R1>([columns], 3)]
        expect([bf16.isExact(weight), bf16.isExact(weight, factor)]).toEqual([false, true])
        const almost = weight.dataSync().slice()
        almost[0] = (almost[0] as number) * (1 + 2 ** -23)
        expect(bf16.isExact(tensor2d(almost, [columns, depth]), factor)).toBe(false)
        const plain = addTo(matMul(x, weight, false, true), bias)
        for (const [parts, precision] of [
          [1, 'bfloat16'],
          [2, 'exact'],
          [3, 'thirds'],
        ] as const)
          expectClose(bf16.product(x, bf16.pack(weight, parts, false, factor), { bias }), plain, tolerances[precision])
        expect(() => bf16.pack(weight, 3, false, { rows: columns + 1, by: 1 })).toThrow('A factor of rows')
      })
    })

    test.each(sizes)('products with a transposed weight, and of columns over rows: %o by %o, %o deep', (rows, columns, depth) => {
      tidy(() => {
        const [x, stored, other] = [
          normal<Rank.R2>([rows, depth], 1),
          normal<Rank.R2>([depth, columns], 2),
          normal<Rank.R2>([rows, columns], 3),
        ]
        for (const kind of kinds) {
          const weight = weightFor(kind, stored)
          expectClose(bf16.product(x, bf16.pack(weight, kind.parts, true)), matMul(x, weight), tolerances[kind.precision])
        }
        expectClose(bf16.correlate(x, other), matMul(x, other, true, false), tolerances.bfloat16)
      })
    })

    const mlps = [
      { rows: 5, hidden: 33, neurons: 17, gated: true, biased: true, activation: 'silu', scale: 1 },
      { rows: 70, hidden: 64, neurons: 100, gated: false, biased: true, activation: 'gelu_tanh', scale: 0.5 },
      { rows: 600, hidden: 48, neurons: 31, gated: true, biased: false, activation: 'gelu', scale: 1 },
      { rows: 1, hidden: 16, neurons: 1, gated: false, biased: false, activation: 'relu', scale: 1 },
    ] as const

    test.each(kinds.flatMap((kind) => mlps.map((mlp) => ({ ...kind, ...mlp }))))('an MLP equals the step-by-step one: %o', (kind) => {
      const { rows, hidden, neurons, gated, biased, activation, scale, parts } = kind
      tidy(() => {
        const x = normal<Rank.R2>([rows, hidden], 1)
        const weight = (out: number, columns: number, seed: number) =>
          weightFor(kind, normal<Rank.R2>([out, columns], seed, 1 / Math.sqrt(columns)))
        const norm = { kind: 'layer' as const, epsilon: 1e-5, weight: normal<Rank.R1>([hidden], 5), bias: normal<Rank.R1>([hidden], 6) }
        const matrices = {
          up: weight(neurons, hidden, 2),
          down: weight(hidden, neurons, 3),
          ...(gated ? { gate: weight(neurons, hidden, 4) } : {}),
        }
        const vector = (size: number, seed: number) => normal<Rank.R1>([size], seed) as Tensor1D
        const biases = biased
          ? { upBias: vector(neurons, 7), downBias: vector(hidden, 8), ...(gated ? { gateBias: vector(neurons, 9) } : {}) }
          : {}
        const spec = { activation, ...(scale === 1 ? {} : { residualScale: scale }) }
        const plain = runPart(1, { mlp: { norm, ...matrices, ...biases } }, streamOf(x), plainCall(spec))
        const packed = Object.fromEntries(Object.entries(matrices).map(([name, matrix]) => [name, bf16.pack(matrix, parts)]))
        const own = bf16.mlp(x, x, {
          ...(packed as { up: never; down: never }),
          ...biases,
          norm: { ...norm, divisor: hidden, centred: true },
          activation,
          scale,
        })
        expectClose(own, plain, tolerances[kind.precision])
        const seen: Tensor2D[] = []
        const call = { ...plainCall(spec), observe: ({ inner }: { inner: Tensor2D }) => void seen.push(keep(inner.clone())) }
        const again = runPart(1, { mlp: { norm, ...(packed as { up: never; down: never }), ...biases } }, streamOf(x), call)
        expectClose(again, plain, tolerances[kind.precision])
        runPart(1, { mlp: { norm, ...matrices, ...biases } }, streamOf(x), call)
        expectClose(seen[0] as Tensor2D, seen[1] as Tensor2D, tolerances[kind.precision])
      })
    })

    test
      .skipIf(!('summedMlp' in bf16))
      .each(mlps.map((mlp) => ({ ...mlp, samples: mlp.rows === 600 ? 3 : 1, tokens: mlp.rows === 600 ? 224 : 64 })))(
      'sums of neurons are those of the neurons it would store: %o',
      ({ samples, tokens, hidden, neurons, gated, activation }) => {
        tidy(() => {
          const x = normal<Rank.R2>([samples * tokens, hidden], 1)
          const pack = (rows: number, columns: number, seed: number) => bf16.pack(normal<Rank.R2>([rows, columns], seed), 1)
          const part = {
            activation,
            scale: 1,
            up: pack(neurons, hidden, 2),
            down: pack(hidden, neurons, 3),
            ...(gated ? { gate: pack(neurons, hidden, 4) } : {}),
          }
          const [after, sums] = (bf16 as NativeBf16Ops).summedMlp(x, x, part, tokens)
          expect(after.dataSync()).toEqual(bf16.mlp(x, x, part).dataSync())
          const stored = bf16.neurons(x, part)
          const expected = [false, true].flatMap((squared) => [...fused.columnSums(stored, tokens, squared).dataSync()])
          expectClose(sums, tensor3d(expected, [2, samples, neurons]), 1e-6)
        })
      },
    )

    const attentions = [
      { heads: 9, keyValueHeads: 3, headSize: 64, tokens: 700, samples: 1, window: 0, rotated: 64 },
      { heads: 4, keyValueHeads: 4, headSize: 8, tokens: 37, samples: 3, window: 0, rotated: 8 },
      { heads: 4, keyValueHeads: 2, headSize: 80, tokens: 300, samples: 1, window: 0, rotated: 32 },
      { heads: 2, keyValueHeads: 1, headSize: 128, tokens: 500, samples: 2, window: 100, rotated: 128 },
      { heads: 6, keyValueHeads: 2, headSize: 24, tokens: 129, samples: 1, window: 7, rotated: 24 },
      { heads: 1, keyValueHeads: 1, headSize: 4, tokens: 1, samples: 2, window: 0, rotated: 4 },
    ] as const

    // Attention of the runtime's products reads the active backend.
    const attention = (projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, one: AttentionShape, split: boolean): Tensor2D =>
      'attention' in bf16
        ? (bf16 as NativeBf16Ops).attention(projected, cosine, sine, one, split)
        : attendInBf16(projected, { cosine, sine, size: 2 * cosine.shape[1] }, one, split)
    // Attention has no weights.
    const kindsOfAttention = kinds.filter(({ precision }) => precision === 'bfloat16' || precision === 'split')

    test.each(kindsOfAttention.flatMap((kind) => attentions.map((one) => ({ ...kind, ...one }))))(
      'attention equals the one in float32: %o',
      (kind) => {
        const { heads, keyValueHeads, headSize, tokens, samples, window, rotated, parts } = kind
        tidy(() => {
          const inverse = Float64Array.from({ length: rotated / 2 }, (_, i) => 1000 ** (-2 * (i / rotated)))
          const { cosine, sine } = rotaryTables({ size: rotated, frequencies: () => ({ inverse, scale: 1 }) }, 0, tokens)
          const projected = normal<Rank.R2>([samples * tokens, (heads + 2 * keyValueHeads) * headSize], 7, headSize ** -0.25)
          const shape = { heads, keyValueHeads, window }
          const own = attention(projected, cosine, sine, shape, parts === 2)
          expectClose(own, fused.attention(projected, cosine, sine, shape), tolerances[kind.precision])
          // A sample's result does not depend on the other samples, bit for bit.
          const last = slice(projected, [(samples - 1) * tokens, 0], [tokens, -1])
          const alone = attention(last, cosine, sine, shape, parts === 2)
          expect(alone.dataSync()).toEqual(slice(own, [(samples - 1) * tokens, 0], [tokens, -1]).dataSync())
        })
      },
    )

    // Scores climb by the number of keys to each unit, so that softmax is rescaled again and again.
    test.each(
      [
        { tokens: 100, window: 0, climb: 1 },
        { tokens: 700, window: 0, climb: 8 },
        { tokens: 700, window: 150, climb: 4 },
        { tokens: 250, window: 33, climb: 1 },
      ].flatMap((one) => kindsOfAttention.map((kind) => ({ ...kind, ...one }))),
    )('attention to ever larger scores equals the one in float32: %o', ({ tokens, window, climb, parts, precision }) => {
      tidy(() => {
        const { cosine, sine } = rotaryTables({ size: 8, frequencies: () => ({ inverse: new Float64Array(4), scale: 1 }) }, 0, tokens)
        const first = oneHot(tensor1d([0], 'int32'), 128, 1, 0, 'float32') as Tensor2D
        const queries = tile(first, [tokens, 2])
        const keys = mul(reshape(floor(div(range(0, tokens), climb)), [tokens, 1]), first)
        const projected = concat([queries, keys, normal<Rank.R2>([tokens, 128], 7)], 1) as Tensor2D
        const shape = { heads: 2, keyValueHeads: 1, window }
        const own = attention(projected, cosine, sine, shape, parts === 2)
        expectClose(own, fused.attention(projected, cosine, sine, shape), tolerances[precision])
      })
    })

    test.each(kinds.flatMap((kind) => [undefined, 20].map((cap) => ({ ...kind, cap }))))(
      'sums of exponents of logits that are not stored: %o',
      (kind) => {
        for (const [rows, vocabulary, hidden] of [
          [1, 1003, 40],
          [70, 333, 64],
          [600, 97, 33],
        ] as const) {
          tidy(() => {
            const [x, head, bias] = [
              normal<Rank.R2>([rows, hidden], 1, 2),
              weightFor(kind, normal<Rank.R2>([vocabulary, hidden], 2)),
              normal<Rank.R1>([vocabulary], 3),
            ]
            const logits = addTo<Tensor2D>(matMul(x, head, false, true), bias)
            const capped = kind.cap === undefined ? logits : mul<Tensor2D>(tanh(div(logits, kind.cap)), kind.cap)
            const expected = logSumExponents(capped)
            const pairs = bf16.exponents(x, bf16.pack(head, kind.parts), bias, kind.cap).dataSync()
            expected.forEach((value, row) => {
              const own = (pairs[2 * row] ?? 0) + Math.log(pairs[2 * row + 1] ?? 0)
              expect(Math.abs(own - value)).toBeLessThan(kind.parts > 1 ? 2e-3 : lacksAvx512 ? 0.32 : 0.3)
            })
          })
        }
      },
    )

    test.skipIf(kinds.length === 1)('a weight of 16-bit entries takes half the memory, and an MLP may have one beside others', () => {
      tidy(() => {
        const x = normal<Rank.R2>([40, 64], 1)
        const [gate, up, down] = [
          weightFor({ precision: 'exact' }, normal<Rank.R2>([70, 64], 2, 0.1)),
          normal<Rank.R2>([70, 64], 3, 0.1),
          weightFor({ precision: 'exact' }, normal<Rank.R2>([64, 70], 4, 0.1)),
        ] as const
        const packed = { gate: bf16.pack(gate, 2), up: bf16.pack(up, 2), down: bf16.pack(down, 2) }
        expect([packed.gate, packed.up, packed.down].map(({ values }) => values.shape[0])).toEqual([1, 2, 1])
        const plain = matMul<Tensor2D>(fused.gate(matMul(x, gate, false, true), matMul(x, up, false, true)), down, false, true)
        expectClose(bf16.mlp(x, x, { ...packed, activation: 'silu', scale: 1 }), addTo(x, plain), tolerances.split)
        const swapped = { ...packed, gate: packed.up, up: packed.gate }
        const other = matMul<Tensor2D>(fused.gate(matMul(x, up, false, true), matMul(x, gate, false, true)), down, false, true)
        expectClose(bf16.mlp(x, x, { ...swapped, activation: 'silu', scale: 1 }), addTo(x, other), tolerances.split)
      })
    })

    test('logits far from zero neither overflow nor vanish, and NaN stays NaN', () => {
      tidy(() => {
        const head = bf16.pack(tensor2d([500, -500, 480, 0, 0], [5, 1]), 1)
        const [up = 0, sum = 0, down = 0, other = 0] = bf16.exponents(tensor2d([1, -1], [2, 1]), head, undefined, undefined).dataSync()
        expect(up + Math.log(sum)).toBeCloseTo(500, 0)
        expect(down + Math.log(other)).toBeCloseTo(500, 0)
        const lost = bf16.exponents(tensor2d([Number.NaN], [1, 1]), head, undefined, undefined).dataSync()
        expect((lost[0] ?? 0) + Math.log(lost[1] ?? 0)).toBeNaN()
      })
    })

    test('shapes that do not fit are refused with a sentence', () => {
      tidy(() => {
        const packed = bf16.pack(normal<Rank.R2>([40, 64], 1), 1)
        expect(() => bf16.product(normal<Rank.R2>([3, 99], 2), packed)).toThrow('does not fit')
      })
    })
  },
)
