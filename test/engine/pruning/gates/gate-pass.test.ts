import { dispose, memory, tensor1d } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Model } from '#engine/model/model.ts'
import { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import { denseView } from '#engine/model/views/view.ts'
import { isAttention, type Part } from '#engine/model/weights/weights.ts'
import { gradientsByBlock } from '#engine/pruning/gates/collect-gradients.ts'
import { GateMasks, listGates } from '#engine/pruning/gates/gate-list.ts'
import { GatePass } from '#engine/pruning/gates/gate-pass.ts'
import type { PartGates } from '#engine/pruning/gates/gated-part.ts'
import type { Products } from '#engine/tensor/products.ts'
import { fullModels, mixtureModels, type ReferenceModel } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { batchOf, denseStates, lengthOf, tokensFor, trainedModels } from '../recovery/training.ts'
import { openReference } from '../running.ts'

const { bf16 } = await openBackend(testedBackend)

/** Gates that can be moved one by one, all between closed and open. */
class MovableGates {
  readonly inner = new Map<Part, Float32Array>()
  readonly experts = new Map<Part, number[]>()
  readonly output = new Map<Part, number>()
  #made: ReturnType<typeof tensor1d>[] = []

  of(part: Part): PartGates {
    const inner = this.inner.get(part)
    const made = inner && tensor1d(inner)
    if (made) this.#made.push(made)
    const experts = this.experts.get(part)
    return { ...(made ? { inner: made } : {}), ...(experts ? { experts } : {}), output: this.output.get(part) ?? 1 }
  }

  release(): void {
    for (const one of this.#made) one.dispose()
    this.#made = []
  }
}

/**
 * The first part behind everything at which the loss jumps: a DeltaNet normalises inputs close to zero, and a router changes its choice.
 * `gated-mixture.test.ts` checks what goes back through a mixture.
 */
function lastSmooth(spec: DecoderSpec): Part {
  const jumps = spec.blocks.map((_, block) => (spec.block(block).mixture ? 2 * block + 1 : spec.block(block).delta ? 2 * block : -1))
  return Math.max(0, ...jumps)
}

/** Parts of one kind run the same code, so the first and the last of each kind behind `lastSmooth` are enough. */
function checkedParts(spec: DecoderSpec): { first: Set<Part>; all: Set<Part> } {
  const kindOf = (part: Part) => {
    const { delta, mixture } = spec.block(part >> 1)
    return isAttention(part) ? `attention ${delta !== undefined} ${spec.slidingWindow(part >> 1)}` : `MLP ${mixture !== undefined}`
  }
  const parts = Array.from({ length: 2 * spec.blocks.length }, (_, part) => part).filter((part) => part >= lastSmooth(spec))
  const kinds = [...Map.groupBy(parts, kindOf).values()]
  return { first: new Set(kinds.map((own) => at(own, 0))), all: new Set(kinds.flatMap((own) => [at(own, 0), at(own, own.length - 1)])) }
}

async function headOf(model: Model, products: Products = 'float32', Head = FrozenHead): Promise<FrozenHead> {
  let head: FrozenHead | undefined
  await model.vocabulary.forEachHeadChunk((chunk) => {
    head = new Head(chunk, products)
  })
  return head as FrozenHead
}

class LossFound extends Error {
  readonly loss: number

  constructor(loss: number) {
    super('the loss is found')
    this.loss = loss
  }
}

/** Ends a pass where its loss is found: a slope needs no way back. */
class LastHead extends FrozenHead {
  override async divergence(...[own, dense]: Parameters<FrozenHead['divergence']>): Promise<never> {
    throw new LossFound((await super.divergence(own, dense)).sum)
  }

  override async crossEntropy(...[own, targets]: Parameters<FrozenHead['crossEntropy']>): Promise<never> {
    throw new LossFound((await super.crossEntropy(own, targets)).sum)
  }
}

/** A head that caps its logits, and one that does not, are enough for the cross-entropy of a text. */
const alsoText: readonly ReferenceModel[] = ['llama3-rope', 'gemma2']
const supported = [...trainedModels, ...mixtureModels].filter((name) => name !== 'gpt_oss')

describe.each(supported)('%s', (name) => {
  const open = openReference(name)

  test.each(alsoText.includes(name) ? (['divergence', 'text'] as const) : (['divergence'] as const))(
    'every kind of gate has the gradient that numerical differences of the %s show',
    async (objective) => {
      const { model, calibration } = open()
      const { spec } = model
      const windows = calibration.slice(0, 2).map((window) => window.slice(0, tokensFor(spec)))
      const { dense, ...text } = batchOf(windows, await denseStates(model, windows))
      const batch = objective === 'divergence' ? { ...text, dense } : text
      const view = denseView(model)
      const [head, last] = [await headOf(model), await headOf(model, 'float32', LastHead)]
      const gates = new MovableGates()
      const before = memory().numTensors
      const pass = new GatePass(view, head, { products: 'float32', keeps: true })
      const forward = new GatePass(view, last, { products: 'float32', keeps: false })
      const run = async () => {
        const found = await pass.gradients(batch, 1 / batch.ids.length, (part) => gates.of(part)).finally(() => gates.release())
        return { ...found, loss: found.loss / batch.ids.length }
      }
      const lossAlone = async () => {
        const found = await forward.gradients(batch, 1, (part) => gates.of(part)).catch((thrown: unknown) => thrown)
        gates.release()
        if (found instanceof LossFound) return found.loss / batch.ids.length
        throw found
      }
      try {
        const shapes = (await run()).parts
        for (const [part, { inner, experts, output }] of shapes) {
          expect(output).toHaveLength(2)
          // A divergence has no slope where nothing is closed.
          if (inner)
            gates.inner.set(
              part,
              Float32Array.from({ length: inner.length / 2 }, (_, i) => 0.6 + 0.3 * Math.sin(1.7 * i + part)),
            )
          if (experts)
            gates.experts.set(
              part,
              Array.from({ length: experts.length / 2 }, (_, i) => 0.6 + 0.3 * Math.sin(1.7 * i + part)),
            )
          gates.output.set(part, 0.8)
        }
        const found = await run()
        expect(await lossAlone()).toBe(found.loss)
        const checked = checkedParts(spec)
        const parts = [...found.parts].filter(([part]) => checked.all.has(part))
        const slope = async (move: (by: number) => void, step: number) => {
          const at = async (by: number) => {
            move(by)
            const loss = await lossAlone()
            move(-by)
            return loss
          }
          const near = (await at(step)) - (await at(-step))
          const far = (await at(2 * step)) - (await at(-2 * step))
          return (8 * near - far) / (12 * step)
        }
        const check = async (what: string, gradient: number, move: (by: number) => void, step = 0.02) => {
          const found = await slope(move, step)
          expect(Math.abs(found - gradient), `${what}: gradient ${gradient}, slope ${found}`).toBeLessThan(0.01 * Math.abs(gradient) + 4e-5)
        }
        for (const [part, { inner, experts, output }] of parts) {
          const both = (values: Float32Array, i: number) => (values[i] as number) + (values[values.length / 2 + i] as number)
          const what = `${isAttention(part) ? 'attention' : 'MLP'} ${part >> 1}`
          await check(what, both(output, 0), (by) => gates.output.set(part, (gates.output.get(part) as number) + by))
          const strongest = (values: Float32Array) =>
            Array.from({ length: values.length / 2 }, (_, i) => Math.abs(both(values, i))).reduce(
              (best, value, i, all) => (value > (all[best] as number) ? i : best),
              0,
            )
          if (inner) {
            const own = gates.inner.get(part) as Float32Array
            const i = strongest(inner)
            if (checked.first.has(part))
              await check(`${what}, ${i}`, both(inner, i), (by) => {
                own[i] = (own[i] as number) + by
              })
            // Many gates together, with different signs, so that errors cannot hide in small gradients.
            const signs = own.map((_, k) => Math.cos(k))
            const along = signs.reduce((sum, sign, k) => sum + sign * both(inner, k), 0)
            await check(
              `${what}, all`,
              along,
              (by) => {
                for (const [k, sign] of signs.entries()) own[k] = (own[k] as number) + by * sign
              },
              0.005,
            )
          }
          if (experts) {
            const i = strongest(experts)
            const own = gates.experts.get(part) as number[]
            await check(`${what}, expert ${i}`, both(experts, i), (by) => {
              own[i] = (own[i] as number) + by
            })
          }
        }
        pass.dispose()
        forward.dispose()
        expect(memory().numTensors).toBe(before)
      } finally {
        dense.dispose()
        head.dispose()
        last.dispose()
      }
    },
  )
})

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)

  test('closed neurons that products skip have the same loss and gradients', async () => {
    const { model, calibration } = open()
    const windows = calibration.slice(0, 2).map((window) => window.slice(0, 48))
    const { dense, ...text } = batchOf(windows, await denseStates(model, windows))
    const head = await headOf(model)
    const list = listGates(model.spec)
    const closed = Uint8Array.from({ length: list.count }, (_, gate) => (gate % 3 === 0 ? 1 : 0))
    const before = memory().numTensors
    const masks = new GateMasks(list, closed)
    const pass = new GatePass(denseView(model), head, { products: 'float32', keeps: true })
    try {
      expect(model.spec.blocks.some((_, block) => masks.of(2 * block + 1).open)).toBe(true)
      const skipping = await pass.gradients({ ...text, dense }, 1, (part) => masks.of(part))
      const whole = await pass.gradients({ ...text, dense }, 1, (part) => ({ ...masks.of(part), open: undefined }))
      expect(Math.abs(skipping.loss / whole.loss - 1)).toBeLessThan(1e-5)
      for (const [part, { inner = [], output }] of whole.parts) {
        const found = skipping.parts.get(part)
        const most = Math.max(...inner.map(Math.abs), ...output.map(Math.abs))
        for (const [i, value] of [...inner, ...output].entries())
          expect(Math.abs(at([...(found?.inner ?? []), ...(found?.output ?? [])], i) - value)).toBeLessThan(1e-4 * most)
      }
    } finally {
      pass.dispose()
      masks.dispose()
      dense.dispose()
      head.dispose()
    }
    expect(memory().numTensors).toBeLessThanOrEqual(before)
  })
})

describe('gates on larger units', () => {
  const open = openReference('llama3-rope')

  test('have the gradients that numerical differences show: groups of heads, MLPs and blocks', async () => {
    const { model, calibration } = open()
    const { spec } = model
    const windows = calibration.slice(0, 2).map((window) => window.slice(0, 48))
    const { dense, ...batch } = batchOf(windows, await denseStates(model, windows))
    dense.dispose()
    const head = await headOf(model)
    const gates = new MovableGates()
    const pass = new GatePass(denseView(model), head, { products: 'float32', keeps: true })
    const size = spec.heads * spec.headSize
    const run = () => pass.gradients(batch, 1, (part) => gates.of(part)).finally(() => gates.release())
    const found = gradientsByBlock(spec, await run(), () => ({ output: 1 }))
    const both = (values: Float32Array | undefined, i: number) => at(values ?? [], i) + at(values ?? [], (values?.length ?? 0) / 2 + i)
    const slopeOf = async (move: (by: number) => void) => {
      const lossAt = async (by: number) => {
        move(by)
        return (await run()).loss
      }
      const slope = ((await lossAt(0.02)) - (await lossAt(-0.02))) / 0.04
      move(0)
      return slope
    }
    try {
      expect([...found.keys()]).toEqual([...spec.blocks.keys()])
      for (const [block, { attention, groups, mlp, block: whole, neurons }] of found) {
        expect(groups).toHaveLength(2 * spec.keyValueHeads)
        expect(neurons).toHaveLength(2 * spec.intermediate)
        expect(both(whole, 0)).toBeCloseTo(both(attention, 0) + both(mlp, 0), 3)
        for (let group = 0; group < spec.keyValueHeads; group++) {
          const own = size / spec.keyValueHeads
          const slope = await slopeOf((by) =>
            gates.inner.set(
              2 * block,
              Float32Array.from({ length: size }, (_, i) => 1 + (Math.floor(i / own) === group ? by : 0)),
            ),
          )
          expect(Math.abs(slope - both(groups, group))).toBeLessThan(0.01 * Math.abs(slope) + 0.01)
        }
        const slope = await slopeOf((by) => {
          gates.output.set(2 * block, 1 + by)
          gates.output.set(2 * block + 1, 1 + by)
        })
        expect(Math.abs(slope - both(whole, 0))).toBeLessThan(0.01 * Math.abs(slope) + 0.01)
      }
    } finally {
      pass.dispose()
      head.dispose()
    }
  })

  test('activations that are computed again give the same bits', async () => {
    const { model, calibration } = open()
    const windows = calibration.slice(0, 2).map((window) => window.slice(0, 48))
    const { dense, ...batch } = batchOf(windows, await denseStates(model, windows))
    const head = await headOf(model)
    const results = []
    for (const keeps of [true, false]) {
      const pass = new GatePass(denseView(model), head, { products: 'float32', keeps })
      const inner = tensor1d(Array.from({ length: model.spec.intermediate }, (_, i) => i % 2))
      results.push(
        await pass.gradients({ ...batch, dense }, 1, (part) =>
          part === 1 ? { inner, output: 1 } : part === 2 ? { output: 0 } : { output: 1 },
        ),
      )
      inner.dispose()
      pass.dispose()
    }
    expect(results[1]).toEqual(results[0])
    dense.dispose()
    head.dispose()
  })
})

describe.skipIf(!bf16)('gates by units of 16-bit operands', () => {
  const open = openReference('llama3-rope')

  test('have the gradients of float32, except for rounding', async () => {
    const { model, calibration } = open()
    const windows = calibration.slice(0, 2).map((window) => window.slice(0, 96))
    const { dense, ...batch } = batchOf(windows, await denseStates(model, windows))
    const inner = tensor1d(Array.from({ length: model.spec.intermediate }, (_, i) => i % 2))
    const found: Float32Array[] = []
    for (const products of ['float32', 'bfloat16'] as const) {
      const head = await headOf(model, products)
      const pass = new GatePass(denseView(model), head, { products, keeps: true })
      const { parts } = await pass.gradients({ ...batch, dense }, 1, (part) => (part === 1 ? { inner, output: 1 } : { output: 1 }))
      found.push(Float32Array.from([...parts.values()].flatMap(({ inner: own }) => [...(own ?? [])])))
      pass.dispose()
      head.dispose()
    }
    const [plain, rounded] = found as [Float32Array, Float32Array]
    expect(lengthOf(plain.map((value, i) => value - at(rounded, i)))).toBeLessThan(0.1 * lengthOf(plain))
    dispose([dense, inner])
  })
})
