import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { add, concat, dispose, memory, mul, type Rank, randomNormal, slice, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { groupedTypes } from '#engine/backend/fused.ts'
import { blockTypeNamed, decodeBlocks, encodeRows } from '#engine/checkpoint/gguf/value-blocks.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { roundTo } from '#engine/model/weights/unpack.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { disposeNarrow, narrowed, offerNarrow } from '#engine/tensor/narrow.ts'
import { makeModel } from '../../fixtures/bench-model.ts'
import { processorFeatures } from '../../fixtures/processor-features.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

const home = scratchFolder('narrow')
const shape = { blocks: 2, hidden: 64, intermediate: 160, heads: 4, keyValueHeads: 2, vocabulary: 300 }
/** Processors without AVX-512 read float16 in float32. */
const storedIn16: readonly string[] = /\bavx512f\b/.test(processorFeatures) ? ['BF16', 'F16'] : ['BF16']

beforeAll(() => openBackend(testedBackend))

/** Rows that also fill blocks of 256. */
const wide = { ...shape, hidden: 256, intermediate: 512 }

/** Logits, token by token, of the dense model and of one with fewer neurons, and the number of tensors created for the latter. */
async function decode(path: string, memoryBytes?: number) {
  const model = await openModel(path, memoryBytes)
  const plan = densePlan(model.spec)
  const kept = Array.from({ length: 128 }, (_, neuron) => neuron + 7)
  const narrow = viewWithPlan(model, { ...plan, blocks: plan.blocks.map((block) => ({ ...block, mlp: { kept } })) })
  const logits: Float32Array[] = []
  const before = memory().numTensors
  for (const view of [denseView(model), narrow]) {
    const session = new DecodingSession(view)
    await session.feed(Int32Array.of(1, 2, 3), 1)
    for (let id = 4; id < 10; id++) logits.push(...(await session.feed(Int32Array.of(id), 1)))
    session.dispose()
  }
  const { hasRoomToNarrow } = model.store
  const made = memory().numTensors - before
  narrow.dispose()
  await model.close()
  return { logits, made, hasRoomToNarrow }
}

test.each(['BF16', 'F16', 'F32'] as const)(
  'answers of a checkpoint in %s are the same bit for bit with weights in 16 bits',
  async (dtype) => {
    const path = await makeModel(join(home, dtype), { ...shape, dtype })
    const before = memory().numTensors
    const [roomy, tight] = [await decode(path), await decode(path, 650e3)]
    expect([roomy.hasRoomToNarrow, tight.hasRoomToNarrow]).toEqual([true, false])
    expect(roomy.logits).toEqual(tight.logits)
    // Two matrices of attention and three of an MLP per block, and the head: the whole MLPs were evicted for the narrow ones. Scaled
    // queries are too small for float16.
    const attention = dtype === 'F16' ? 1 : 2
    const narrows = storedIn16.includes(dtype) && activeBackend().fused ? 2 * (attention + 3) + 1 : 0
    expect(roomy.made - tight.made).toBe(narrows)
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  },
)

test('answers of heads whose queries have a factor are the same bit for bit with weights in 16 bits', async () => {
  const path = await makeModel(join(home, 'heads'), { ...wide, heads: 2, keyValueHeads: 1, dtype: 'BF16' })
  const [roomy, tight] = [await decode(path), await decode(path, 8e6)]
  expect([roomy.hasRoomToNarrow, tight.hasRoomToNarrow]).toEqual([true, false])
  expect(roomy.logits).toEqual(tight.logits)
  expect(roomy.made - tight.made).toBe(activeBackend().fused ? 2 * (2 + 3) + 1 : 0)
})

test.each(['Q8_0', 'Q4_0', 'Q4_K_M', 'Q6_K'] as const)(
  'answers of a GGUF file in %s are the same bit for bit from its quantised blocks',
  async (type) => {
    const model = await openModel(await makeModel(join(home, 'wide'), { ...wide, dtype: 'F32' }))
    const folder = join(home, type)
    await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder, ggufTypes: [type] })
    await model.close()
    const path = join(folder, readdirSync(folder).find((name) => name.endsWith('.gguf')) as string)
    const before = memory().numTensors
    const [roomy, tight] = [await decode(path), await decode(path, 8e6)]
    expect([roomy.hasRoomToNarrow, tight.hasRoomToNarrow]).toEqual([true, false])
    expect(roomy.logits).toEqual(tight.logits)
    // Two matrices of attention per block, gate and up, whose rows were gathered, and the head. Of the projection down, columns were.
    expect(roomy.made - tight.made).toBe(activeBackend().fused?.group ? 2 * (2 + 2) + 1 : 0)
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  },
)

/** The blocks of seeded rows in a type, and the rows unpacked from them and multiplied by `factor`. */
async function quantised(type: keyof typeof groupedTypes, rows: number, factor: number) {
  const values = randomNormal<Rank.R2>([rows, 512], 0, 0.1, 'float32', rows)
  const blocks = await encodeRows(values.dataSync<'float32'>(), blockTypeNamed(type), 512)
  values.dispose()
  const unpacked = tensor2d(decodeBlocks(blocks, blockTypeNamed(type)), [rows, 512])
  return { part: { type, rows, blocks, factor }, unpacked: mul<Tensor2D>(unpacked, factor) }
}

test.each([
  { types: ['Q8_0'], bytes: 1.125 },
  { types: ['Q5_0'], bytes: 1.125 },
  { types: ['Q4_0'], bytes: 0.625 },
  { types: ['Q4_K'], bytes: 0.75 },
  { types: ['Q5_K'], bytes: 1.5 },
  { types: ['Q6_K'], bytes: 1.25 },
  { types: ['Q4_K', 'Q6_K'], bytes: 1.5 },
  { types: ['Q4_0', 'Q4_K'], bytes: 1.5 },
] as const)(
  'a product with a weight in blocks of $types is the same bit for bit and reads $bytes bytes an entry',
  async ({ types, bytes }) => {
    const { fused } = activeBackend()
    const rows = types.length === 1 ? [24] : [22, 18]
    const parts = await Promise.all(types.map((type, index) => quantised(type, at(rows, index), index === 0 ? 1 / 8 : 1)))
    const weight: Tensor2D = concat(parts.map(({ unpacked }) => unpacked))
    const other: Tensor2D = add(weight, 1e-3)
    const stored = parts.map(({ part }) => part)
    expect(fused?.group?.(other, stored)).toBeUndefined()
    const grouped = fused?.group?.(weight, stored)
    expect(grouped && (4 * grouped.size) / weight.size).toBe(fused?.group && bytes)
    if (!grouped) return
    const x = randomNormal<Rank.R2>([7, 512])
    const bias = randomNormal<Rank.R1>([weight.shape[0]])
    const product = (few: Tensor2D, form: Tensor2D) => fused?.projectFew?.(few, form, bias).arraySync()
    const whole = product(x, weight)
    expect(product(x, grouped)).toEqual(whole)
    const alone = Array.from({ length: 7 }, (_, row) => product(slice(x, [row, 0], [1, -1]), grouped)?.[0])
    expect(alone).toEqual(whole)
    dispose([weight, other, grouped, x, bias])
  },
)

test('a weight whose rows are no multiple of four stays in float32', async () => {
  const { fused } = activeBackend()
  const { part, unpacked } = await quantised('Q8_0', 10, 1)
  expect(fused?.group?.(unpacked, [part])).toBeUndefined()
})

test('a weight that was not offered, loses something, or does not fill vectors stays in float32', () => {
  const exact = () =>
    tensor2d(
      Array.from({ length: 96 }, (_, i) => i / 64),
      [3, 32],
    )
  const offered = [
    exact(),
    randomNormal<Rank.R2>([3, 32]),
    tensor2d(
      Array.from({ length: 30 }, (_, i) => i),
      [3, 10],
    ),
  ] as const
  const weights = [...offered, exact()]
  offerNarrow(offered, { bytes: 1e6 })
  const found = weights.map((weight) => [1, 2, 3, 4].map(() => narrowed(weight) !== undefined))
  const never = [false, false, false, false]
  expect(found).toEqual([activeBackend().fused ? [false, false, true, true] : never, never, never, never])
  disposeNarrow(offered)
  expect(narrowed(offered[0])).toBeUndefined()
  for (const weight of weights) weight.dispose()
})

test('16-bit weights take no more than the free memory, and release it', () => {
  const exact = Array.from({ length: 96 }, (_, i) => i / 64)
  const weights = [tensor2d(exact, [3, 32]), tensor2d(exact, [3, 32])] as const
  const room = { bytes: 2 * 96 + 1 }
  offerNarrow(weights, room)
  const found = weights.map((weight) => [1, 2, 3].map(() => narrowed(weight) !== undefined).at(-1))
  const { fused } = activeBackend()
  expect(found).toEqual([fused !== undefined, false])
  expect(room.bytes).toBe(fused ? 1 : 2 * 96 + 1)
  disposeNarrow(weights)
  expect(room.bytes).toBe(2 * 96 + 1)
  for (const weight of weights) weight.dispose()
})

test.each(['BF16', 'F16', 'F32'] as const)(
  'the bits of a row do not depend on the rows beside it, or on 16 bits of its weight: %s',
  (dtype) => {
    const { fused } = activeBackend()
    const x = randomNormal<Rank.R2>([7, 576])
    const weight = roundTo(randomNormal<Rank.R2>([50, 576]), dtype)
    const narrow = fused?.narrow?.(weight)
    const forms = [...(fused ? [weight] : []), ...(narrow ? [narrow] : [])]
    const products = forms.map((form) => fused?.projectFew?.(x, form, undefined).arraySync())
    const alone = forms.map((form) =>
      [...Array(7).keys()].map((row) => fused?.projectFew?.(slice(x, [row, 0], [1, -1]), form, undefined).arraySync()[0]),
    )
    for (const other of [...products, ...alone]) expect(other).toEqual(products[0])
    expect(products.length).toBe(!fused ? 0 : storedIn16.includes(dtype) ? 2 : 1)
  },
)
