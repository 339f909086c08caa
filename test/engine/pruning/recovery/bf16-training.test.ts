import { type Rank, randomNormal, type Tensor, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { withProducts } from '#engine/model/model.ts'
import { FrozenHead, type HeadLoss } from '#engine/model/parts/head/training-loss.ts'
import { feedBackward, feedForward } from '#engine/model/parts/mlp/mlp-backward.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { FinalStates } from '#engine/pruning/recovery/final-states.ts'
import { openReference, recordedRun } from '../running.ts'
import { batchOf, denseStates, gradientsOf, lengthOf, openTraining } from './training.ts'

const { bf16 } = await openBackend('tensorflow')

const normal = <R extends Rank>(shape: number[], seed: number, deviation = 1) =>
  randomNormal<R>(shape as never, 0, deviation, 'float32', seed)

/** The length of the difference of two vectors as a share of the length of the second. */
const apart = (a: Float32Array, b: Float32Array): number => lengthOf(a.map((value, i) => value - (b[i] as number))) / lengthOf(b)

describe.skipIf(!bf16)('training by units of 16-bit operands', () => {
  // Vocabularies and widths that do not fill a tile, less than a block of rows and more than one, biases, caps, logits over 40 apart.
  test.each([
    { rows: 1, hidden: 8, vocabulary: 5, biased: false, cap: undefined, spread: 2 },
    { rows: 70, hidden: 33, vocabulary: 300, biased: true, cap: undefined, spread: 2 },
    { rows: 300, hidden: 64, vocabulary: 1000, biased: false, cap: 3, spread: 2 },
    { rows: 129, hidden: 48, vocabulary: 77, biased: true, cap: 2, spread: 2 },
    { rows: 300, hidden: 48, vocabulary: 1000, biased: false, cap: undefined, spread: 30 },
  ])('divergence and gradient equal those of logits in float32: %o', async ({ rows, hidden, vocabulary, biased, cap, spread }) => {
    const weight = normal<Rank.R2>([vocabulary, hidden], 1, spread / Math.sqrt(hidden)) as Tensor2D
    const chunk = { first: 0, weight, ...(biased ? { bias: normal<Rank.R1>([vocabulary], 2) as Tensor1D } : {}), ...(cap ? { cap } : {}) }
    const [own, dense] = [normal<Rank.R2>([rows, hidden], 3), normal<Rank.R2>([rows, hidden], 4)]
    const found: HeadLoss[] = []
    for (const products of ['float32', 'bfloat16'] as const) {
      const head = new FrozenHead(chunk, products)
      found.push(await head.divergence(own, dense, { scale: 1 / rows }))
      const { sum, gradient } = await head.divergence(own, dense)
      expect(gradient).toBeUndefined()
      expect(sum).toBe(found.at(-1)?.sum)
      head.dispose()
    }
    const [plain, rounded] = found as [HeadLoss, HeadLoss]
    expect(Math.abs(rounded.sum / plain.sum - 1)).toBeLessThan(0.01)
    expect(apart(valuesOf(rounded), valuesOf(plain))).toBeLessThan(0.02)
  })

  // Widths that do not fill a tile, less than a block of rows and more than one; LayerNorm, and an MLP without gates.
  test.each([
    { rows: 1, hidden: 8, neurons: 5, kind: 'rms', activation: 'silu', gated: true },
    { rows: 70, hidden: 33, neurons: 75, kind: 'layer', activation: 'gelu_tanh', gated: true },
    { rows: 300, hidden: 64, neurons: 172, kind: 'rms', activation: 'silu', gated: true },
    { rows: 300, hidden: 48, neurons: 77, kind: 'rms', activation: 'gelu', gated: false },
  ] as const)('an MLP and its gradients equal those in float32: %o', ({ rows, hidden, neurons, kind, activation, gated }) => {
    const weight = (out: number, into: number, seed: number) => normal<Rank.R2>([out, into], seed, 1 / Math.sqrt(into)) as Tensor2D
    const matrices = {
      up: weight(neurons, hidden, 1),
      down: weight(hidden, neurons, 2),
      ...(gated ? { gate: weight(neurons, hidden, 3) } : {}),
    }
    const weights = { ...matrices, norm: { kind, epsilon: 1e-5, weight: normal<Rank.R1>([hidden], 4) as Tensor1D } }
    const [source, gradient] = [normal<Rank.R2>([rows, hidden], 5) as Tensor2D, normal<Rank.R2>([rows, hidden], 6) as Tensor2D]
    const [plain, rounded] = (['float32', 'bfloat16'] as const).map((products) => {
      const { output, kept } = feedForward(source, weights, activation, products, { add: source })
      expect(kept.neurons !== undefined).toBe(products === 'bfloat16')
      const { source: bySource, gradients } = feedBackward(kept, weights, activation, products, gradient)
      return { output, bySource, ...gradients } as Record<string, Tensor>
    }) as [Record<string, Tensor>, Record<string, Tensor>]
    expect(Object.keys(rounded).sort()).toEqual(Object.keys(plain).sort())
    for (const [name, tensor] of Object.entries(plain))
      expect(apart(rounded[name]?.dataSync() as Float32Array, tensor.dataSync() as Float32Array), name).toBeLessThan(0.02)
  })

  const plan = (blocks: number): Plan => ({
    blocks: Array.from({ length: blocks }, (_, i) => ({ attention: i === 1 ? 'removed' : 'kept', mlp: { kept: 'all' } })),
  })

  describe.each(['llama3-rope', 'qwen3', 'gemma2', 'phi-tiny', 'olmo2'] as const)('%s', (name) => {
    const open = openReference(name)

    test('the dense model’s states have half precision if the run does, and hardly differ', async () => {
      const { model, calibration } = open()
      const windows = calibration.slice(0, 2).map((window) => window.slice(0, 100))
      const read = async (precision: 'float32' | 'mixed') => {
        const view = denseView(withProducts(model, productsFor(precision)))
        return (await FinalStates.of(view, windows, recordedRun())).read([0, 1])
      }
      const [exact, half] = [await read('float32'), await read('mixed')]
      expect(await half.data()).not.toEqual(await exact.data())
      const { head, dispose } = await openTraining(model, plan(model.spec.blocks.length))
      expect((await head.divergence(half, exact)).sum / 200).toBeLessThan(1e-3)
      dispose()
    })

    test('gradients of bfloat16 products are those of float32, except for rounding', async () => {
      const { model, calibration } = open()
      const windows = calibration.slice(0, 2).map((window) => window.slice(0, 100))
      const states = await denseStates(model, windows)
      const results = []
      for (const products of ['float32', 'bfloat16'] as const) {
        const { pass, dispose } = await openTraining(model, plan(model.spec.blocks.length), { products })
        const batch = batchOf(windows, states)
        results.push(await gradientsOf(pass, batch))
        batch.dense.dispose()
        dispose()
      }
      const [plain, rounded] = results as [(typeof results)[0], (typeof results)[0]]
      expect([...rounded.gradients.keys()].sort()).toEqual([...plain.gradients.keys()].sort())
      const whole = (gradients: Map<string, Float32Array>) =>
        Float32Array.from([...gradients.keys()].sort().flatMap((key) => [...(gradients.get(key) as Float32Array)]))
      expect(apart(whole(rounded.gradients), whole(plain.gradients))).toBeLessThan(0.06)
      for (const [key, values] of plain.gradients) {
        if (lengthOf(values) > 1e-4) expect(apart(rounded.gradients.get(key) as Float32Array, values), key).toBeLessThan(0.08)
      }
    })
  })
})

const valuesOf = ({ gradient }: HeadLoss): Float32Array => gradient?.dataSync() as Float32Array
