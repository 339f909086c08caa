import { add, matMul, memory, mul, type Rank, randomNormal, sigmoid, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { openSpec } from '#engine/model/model.ts'
import { logSumExponents } from '#engine/model/parts/head/token-losses.ts'
import { resolvePrecision } from '#engine/model/precision.ts'
import { bf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { normalize } from '#engine/tensor/norm.ts'
import { sampleModelFolder } from '#runtime/resources.ts'

const normal = <R extends Rank>(seed: number, ...shape: number[]) => randomNormal<R>(shape as never, 0, 1, 'float32', seed)

/** The largest difference, relative to the largest entry. */
function errorOf(own: Tensor, expected: Tensor): number {
  expect(own.shape).toEqual(expected.shape)
  const [a, b] = [own.dataSync(), expected.dataSync()]
  const largest = (list: ArrayLike<number>) => Array.from(list).reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return largest(Array.from(a, (value, i) => value - (b[i] as number))) / largest(b)
}

/** bfloat16 has 8 bits, float16 has 11. A product that is closer than the second number was one in float32. */
function expectIn16Bits(own: Tensor, expected: Tensor): void {
  const error = errorOf(own, expected)
  expect(error).toBeLessThan(bf16Ops().units === 'ggml bfloat16' ? 1e-2 : 1e-3)
  expect(error).toBeGreaterThan(1e-5)
}

/** Compares a device's products with weights in 16 bits with its own in float32. */
export function testBf16Ops(): void {
  test('a product with weights in 16 bits is the one in float32, within 16 bits', () =>
    tidy(() => {
      const [x, weight] = [normal<Rank.R2>(1, 40, 64), normal<Rank.R2>(2, 96, 64)]
      const plain = matMul<Tensor2D>(x, weight, false, true)
      const packed = bf16Ops().pack(weight, 1)
      expectIn16Bits(bf16Ops().product(x, packed), plain)
      const [bias, onto] = [normal<Rank.R1>(3, 96), normal<Rank.R2>(4, 40, 96)]
      expectIn16Bits(bf16Ops().product(x, packed, { bias, add: onto, scale: 0.5 }), add(mul(add(plain, bias), 0.5), onto))
      expectIn16Bits(bf16Ops().product(x, bf16Ops().pack(normal<Rank.R2>(5, 64, 96), 1, true)), matMul(x, normal<Rank.R2>(5, 64, 96)))
      expectIn16Bits(bf16Ops().correlate(plain, x), matMul(plain, x, true, false))
    }))

  test('an MLP after a norm, and sums of exponents, too', () =>
    tidy(() => {
      const x = normal<Rank.R2>(1, 40, 64)
      const [gate, up, down] = [normal<Rank.R2>(2, 96, 64), normal<Rank.R2>(3, 96, 64), normal<Rank.R2>(4, 64, 96)]
      const norm = { epsilon: 1e-5, divisor: 64, centred: false, weight: normal<Rank.R1>(5, 64) }
      const input = normalize(x, { ...norm, kind: 'rms' })
      const gated = matMul<Tensor2D>(input, gate, false, true)
      const inner = mul<Tensor2D>(mul(gated, sigmoid(gated)), matMul(input, up, false, true))
      const pack = (weight: Tensor2D) => bf16Ops().pack(weight, 1)
      const packed = { gate: pack(gate), up: pack(up), down: pack(down) }
      const own = bf16Ops().mlp(x, x, { ...packed, norm, activation: 'silu', scale: 1 })
      expectIn16Bits(own, add(x, matMul(inner, down, false, true)))
      const pairs = bf16Ops().exponents(x, packed.up, undefined, undefined).arraySync()
      const sums = logSumExponents(matMul(x, up, false, true))
      for (const [row, [most = 0, sum = 0]] of pairs.entries())
        expect(Math.abs(most + Math.log(sum) - (sums[row] as number))).toBeLessThan(0.3)
    }))

  test('a packed weight takes half the memory, and only a product reads it', () => {
    const before = memory()
    tidy(() => {
      const weight = normal<Rank.R2>(1, 96, 64)
      const { values } = bf16Ops().pack(weight, 1)
      expect(memory().numBytes - before.numBytes).toBe((4 + 2) * 96 * 64)
      expect(() => add(values, 1).dataSync()).toThrow('cannot be seen as')
      expect(() => values.dataSync()).toThrow('not read back')
      expect(() => bf16Ops().product(normal<Rank.R2>(2, 40, 33), bf16Ops().pack(weight, 1))).toThrow('does not fit')
    })
    expect(memory().numTensors).toBe(before.numTensors)
  })

  test('mixed is offered, and auto stays at float32', async () => {
    const { spec } = await openSpec(sampleModelFolder)
    expect(resolvePrecision('auto', spec)).toBe('float32')
    expect(resolvePrecision('mixed', spec)).toBe('mixed')
  })
}
