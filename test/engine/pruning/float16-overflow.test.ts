import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { setActiveBackend } from '#engine/backend/active.ts'
import { findRuntimeProducts } from '#engine/backend/ggml/open.ts'
import type { GgmlTensors } from '#engine/backend/ggml/tensors.ts'
import { openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { submoduleBlockPruner } from '#engine/pruning/methods/blockpruner.ts'
import { evopress } from '#engine/pruning/methods/evopress.ts'
import { runtimeTypes } from '../../fixtures/processor-features.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { asOnGpu } from '../backend/as-on-gpu.ts'
import { computeOn } from '../backend/every-device/devices.ts'
import { makeValidModel, sizes, writeModelFiles } from '../checkpoint/valid-model.ts'
import { type Bench, prune } from './running.ts'

function scale(bytes: Uint8Array | undefined, factor: number): void {
  const values = new Float32Array((bytes as Uint8Array).buffer)
  for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? 0) * factor
}

const windows = (count: number) =>
  Array.from({ length: count }, (_, window) => Int32Array.from({ length: 24 }, (_, i) => (i * 37 + 11 * window) % sizes.vocabulary))

describe.each([...(runtimeTypes.includes('float16') ? ([['TensorFlow', 'tensorflow-cpu']] as const) : []), ['ggml', 'ggml-cpu']] as const)(
  'with float16 by %s',
  (_name, device) => {
    const folder = scratchFolder('half-overflow')
    let bench: Bench
    beforeAll(async () => {
      const backend = await computeOn(device)
      const asOnGgmlGpu = () => ({ ...backend, runtimeProducts: findRuntimeProducts(tf.backend() as GgmlTensors, 'float16') })
      setActiveBackend(device === 'ggml-cpu' ? asOnGgmlGpu() : asOnGpu('float16'))
      const files = makeValidModel()
      // Neurons of block 1 that float16 cannot hold, with outgoing weights as small as they are large: in float32 the model is ordinary.
      scale(files.tensors['model.layers.1.mlp.up_proj.weight']?.bytes, 2 ** 24)
      scale(files.tensors['model.layers.1.mlp.down_proj.weight']?.bytes, 2 ** -24)
      await writeModelFiles(folder, files)
      const calibration = windows(2)
      bench = { model: await openModel(folder), calibration, test: [] }
    })
    afterAll(() => bench.model.close())

    test.each([
      ['BlockPruner', submoduleBlockPruner, {}],
      ['EvoPress', evopress, { windows: 2, finalWindows: 2, startStates: 2, offspring: 2, generations: 1 }],
    ])('what float16 cannot hold is scored again in float32, and %s chooses as in float32', async (_name, method, options) => {
      const amount = { blocks: 1 }
      const exact = await prune(method, bench, amount, options)
      const mixed = await prune(method, { ...bench, model: withProducts(bench.model, productsFor('mixed')) }, amount, options)
      expect(mixed.plan).toEqual(exact.plan)
      const certificates = [...mixed.decisions, ...(mixed.selections ?? [])].flatMap(({ certified }) => certified ?? [])
      expect(certificates.length).toBeGreaterThan(0)
      expect(certificates.every(({ rescored }) => rescored > 0)).toBe(true)
    })
  },
)
