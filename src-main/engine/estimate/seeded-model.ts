import { readSpec } from '#engine/architectures/index.ts'
import { type Checkpoint, rowCount, type TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import type { Model } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { WeightStore } from '#engine/model/weights/residency.ts'
import { Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { neededShapes } from '#engine/model/weights/weights.ts'

export interface SeededShape {
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly vocabulary: number
}

/** A one-block model that exists only in memory. Its weights are arbitrary finite numbers that bfloat16 holds exactly. */
export async function seededModel({ hidden, intermediate, heads, vocabulary }: SeededShape): Promise<Model> {
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    num_hidden_layers: 1,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_attention_heads: heads,
    num_key_value_heads: heads / 2,
    vocab_size: vocabulary,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
  }
  const spec = readSpec(config)
  const checkpoint = memoryCheckpoint(config, neededShapes(spec))
  const store = new WeightStore(checkpoint, spec, 2 ** 30)
  const opened = await Vocabulary.open(checkpoint, spec, true)
  return {
    name: 'seeded',
    path: '',
    quickKey: '',
    checkpoint,
    spec,
    store,
    vocabulary: opened,
    products: productsFor('float32'),
    freeBytes: 2 ** 31,
    memoryBytes: 2 ** 31,
    workspaceBytes: 2 ** 29,
    kept: new Map(),
    async close() {
      store.dispose()
      opened.dispose()
    },
  }
}

function memoryCheckpoint(config: Record<string, unknown>, shapesOf: ReturnType<typeof neededShapes>): Checkpoint {
  const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
  const tensors = new Map(
    [...shapesOf].map(([name, shape]): [string, TensorInfo] => [name, { name, dtype: 'F32', shape, bytes: 4 * sizeOf(shape) }]),
  )
  const values = async (name: string, rows?: { first: number; count: number }): Promise<Float32Array> => {
    const shape = tensors.get(name)?.shape ?? []
    const count = rows ? rows.count * (sizeOf(shape) / rowCount(shape)) : sizeOf(shape)
    if (shape.length === 1) return new Float32Array(count).fill(1)
    const scale = 2 ** -Math.round(7 + Math.log2(shape[1] ?? 1) / 2)
    return Float32Array.from({ length: count }, (_, i) => scale * (((i * 7919) % 255) - 127))
  }
  return {
    path: '',
    config,
    decimals: new Set(),
    tensors,
    readFloat32: values,
    read: async (name, rows) => new Uint8Array((await values(name, rows)).buffer),
    close: async () => undefined,
  }
}
