import { totalmem } from 'node:os'
import { memory } from '@tensorflow/tfjs-core'
import { afterEach, expect, test, vi } from 'vitest'
import { activeBackend, setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { TensorflowProducts } from '#engine/backend/tensorflow.ts'
import { openModel, usualMemory, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { VariantRanking } from '#engine/pruning/search/variant-ranking.ts'
import { makeModel, makeWindows } from '../../fixtures/bench-model.ts'
import { runtimeTypes } from '../../fixtures/processor-features.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { asOnGpu } from '../backend/as-on-gpu.ts'

const own = await openBackend('tensorflow')
const home = scratchFolder('memory')
afterEach(() => {
  setActiveBackend(own)
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** 7.9 MB of weights as float32, half of that as stored; a block's MLP takes 0.8 MB. */
const shape = { blocks: 8, hidden: 128, intermediate: 512, heads: 4, keyValueHeads: 2, vocabulary: 64, dtype: 'BF16' } as const

test("memory is that of the opened device if it has its own, otherwise the machine's or this process's share of it", () => {
  vi.stubEnv('ESPALIER_MEMORY', '')
  expect(usualMemory()).toBe(Math.floor(0.6 * totalmem()))
  vi.stubEnv('ESPALIER_MEMORY', '1000000')
  expect(usualMemory()).toBe(600_000)
  setActiveBackend({ ...activeBackend(), deviceBytes: 10e9 })
  expect(usualMemory()).toBe(8e9)
})

test.skipIf(!runtimeTypes.includes('bfloat16'))(
  'a model that does not fit the device as float32 stays packed there, and mixed unpacks one part at a time',
  async () => {
    setActiveBackend({ ...asOnGpu('bfloat16'), deviceBytes: 10e6 })
    const opened = await openModel(await makeModel(home, shape))
    expect(opened.store.residency).toBe('packed')
    const model = withProducts(opened, productsFor('mixed'))
    const windows = makeWindows(2, 32, shape.vocabulary).map((ids) => Int32Array.from(ids))
    const ranking = new VariantRanking(denseView(model), windows, {})
    const before = memory().numBytes
    let most = 0
    const pack = TensorflowProducts.prototype.pack
    vi.spyOn(TensorflowProducts.prototype, 'pack').mockImplementation(function (this: TensorflowProducts, values) {
      most = Math.max(most, memory().numBytes - before)
      return pack.call(this, values)
    })
    const variants = [0, 1, 2].map((block) => Uint8Array.from({ length: 16 }, (_, part) => Number(part === 2 * block)))
    const { scores } = await ranking.score(variants, 1)
    expect(scores.every(Number.isFinite)).toBe(true)
    const mlp = 4 * 3 * shape.hidden * shape.intermediate
    expect(most).toBeGreaterThan(mlp)
    expect(most).toBeLessThan(2.5 * mlp)
    ranking.dispose()
    await opened.close()
  },
)
