import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { activeParameters } from '#engine/architectures/count-parameters.ts'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { type TensorToWrite, writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { reap } from '#engine/pruning/methods/reap.ts'
import { expectedOf, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { prune } from '../pruning/running.ts'
import { logitsOf, relativeError } from './logits.ts'

const [hidden, expertWidth, sharedWidth] = [64, 44, 88]
const sizes = { num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: expertWidth, shared_expert_intermediate_size: sharedWidth }

const float32 = (name: string, shape: number[], values: Float32Array): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape,
  bytes: () => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
})

/** Neurons [first, first + count) of a dense MLP as a separate MLP whose output is multiplied by `factor`. */
async function partOfMlp(
  { readFloat32 }: { readFloat32: (name: string) => Promise<Float32Array> },
  mlp: string,
  to: string,
  { first, count, factor }: { first: number; count: number; factor: number },
): Promise<TensorToWrite[]> {
  const inner = async (name: string) =>
    float32(
      `${to}.${name}.weight`,
      [count, hidden],
      (await readFloat32(`${mlp}.${name}.weight`)).slice(first * hidden, (first + count) * hidden),
    )
  const down = await readFloat32(`${mlp}.down_proj.weight`)
  const width = down.length / hidden
  const columns = Float32Array.from(
    { length: hidden * count },
    (_, at) => factor * (down[Math.floor(at / count) * width + first + (at % count)] as number),
  )
  return [await inner('gate_proj'), await inner('up_proj'), float32(`${to}.down_proj.weight`, [hidden, count], columns)]
}

/**
 * A dense MLP as a mixture. Its router scores all four experts alike, so it picks the first two with a weight of a quarter each; the shared
 * expert's gate is one half.
 */
async function mixtureOf(checkpoint: Checkpoint, mlp: string): Promise<TensorToWrite[]> {
  const source = { readFloat32: (name: string) => checkpoint.readFloat32(name) }
  const parts = [0, 1, 2, 3].map((expert) => {
    const chosen = expert < 2
    const neurons = { first: chosen ? expert * expertWidth : 0, count: expertWidth, factor: chosen ? 4 : 100 }
    return partOfMlp(source, mlp, `${mlp}.experts.${expert}`, neurons)
  })
  const shared = partOfMlp(source, mlp, `${mlp}.shared_expert`, { first: 2 * expertWidth, count: sharedWidth, factor: 2 })
  return [
    ...(await Promise.all([...parts, shared])).flat(),
    float32(`${mlp}.gate.weight`, [4, hidden], new Float32Array(4 * hidden)),
    float32(`${mlp}.shared_expert_gate.weight`, [1, hidden], new Float32Array(hidden)),
  ]
}

const home = scratchFolder('qwen2-moe')
beforeAll(async () => {
  setActiveBackend(await openBackend(testedBackend))
})

/** The reference model with the MLPs of all blocks but the first turned into mixtures. */
async function writeMixtures(changes: object = {}): Promise<string> {
  const checkpoint = await openCheckpoint(await referenceModel('qwen2-tiny'))
  const mixed = [1, 2, 3].map((block) => `model.layers.${block}.mlp`)
  const others = [...checkpoint.tensors.values()].filter(({ name }) => !mixed.some((mlp) => name.startsWith(`${mlp}.`)))
  const kept = others.map(async ({ name, shape }) => float32(name, [...shape], await checkpoint.readFloat32(name)))
  const made = await Promise.all(mixed.map((mlp) => mixtureOf(checkpoint, mlp)))
  await writeSafetensors(join(home, 'model.safetensors'), [...(await Promise.all(kept)), ...made.flat()])
  const config = { ...checkpoint.config, model_type: 'qwen2_moe', mlp_only_layers: [0], ...sizes, ...changes }
  await writeFile(join(home, 'config.json'), JSON.stringify(config))
  await checkpoint.close()
  return home
}

test('a dense model in parts, as mixtures with a shared expert, has the recorded perplexity, and another where weights are renormalised', async () => {
  const { dense } = await expectedOf<{ dense: { ppl_test_f64: number } }>('qwen2-tiny')
  const windows = await referenceWindows('test')
  const errorOf = async (changes?: object): Promise<number> => {
    const model = await openModel(await writeMixtures(changes))
    const { total, active } = activeParameters(model.spec)
    expect(total - active, 'two idle experts in each of three blocks').toBe(3 * 2 * 3 * hidden * expertWidth)
    const view = denseView(model)
    const { perplexity: found } = await perplexity(view, windows)
    view.dispose()
    await model.close()
    return Math.abs(found / dense.ppl_test_f64 - 1)
  }
  expect(await errorOf()).toBeLessThan(1e-5)
  expect(await errorOf({ norm_topk_prob: true })).toBeGreaterThan(1e-2)
})

test('without the experts that nothing chooses, a gate correction gives the answers of the whole model', async () => {
  const model = await openModel(await writeMixtures())
  const [window = new Int32Array(), ...calibration] = (await referenceWindows('calibration')).slice(0, 3)
  const dense = (await logitsOf(denseView(model), window)).flat()
  const errorWith = async (gateCorrection: string): Promise<number> => {
    const { plan } = await prune(reap, { model, calibration, test: [] }, { experts: 0.5 }, { gateCorrection })
    const view = viewWithPlan(model, plan)
    const logits = (await logitsOf(view, window)).flat()
    view.dispose()
    return relativeError(logits, dense)
  }
  expect(await errorWith('none'), 'gates are twice as large').toBeGreaterThan(0.1)
  expect(await errorWith('fitted')).toBeLessThan(1e-5)
  await model.close()
})
