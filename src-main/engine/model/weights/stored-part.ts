import { gather, type Tensor, tensor, tensor1d } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import type { Model } from '../model.ts'
import { type PlanTensors, partReplaced, replacedName, storedDtype, trainedName } from '../views/plan-tensors.ts'
import { unpackPart } from './unpack.ts'
import { blockOf, disposePacked, isAttention, type NamedTensor, type PackedPart, type Part, readPart } from './weights.ts'

/** A tensor as a checkpoint stores it, in float32. */
export interface StoredValues {
  readonly values: Float32Array
  readonly shape: readonly number[]
}

/** With the dtype that the checkpoint stores it in. */
type TypedValues = StoredValues & { readonly dtype: FloatDtype }

/** The tensors of a part under the keys of `partNames`, as the checkpoint stores them: queries without their scale, norms without an offset. */
export type StoredPart = Readonly<Record<string, TypedValues>>

/** The stored tensors of a part that a plan leaves: kept neurons gathered, replaced tensors substituted. */
export async function readStoredPart(
  { checkpoint, spec }: Pick<Model, 'checkpoint' | 'spec'>,
  plan: Plan,
  tensors: PlanTensors | undefined,
  part: Part,
): Promise<StoredPart> {
  const packed = await readPart(checkpoint, spec, part)
  try {
    const stored: Record<string, TypedValues> = {}
    const kept = keptNeurons(plan, part)
    // In a fixed order, because reads finish in any order and the files of plans are compared by hash.
    for (const key of Object.keys(packed).sort()) {
      const own = packed[key] as NamedTensor
      const whole = own.unpack()
      const cut = kept ? cutNeurons(key, whole, kept) : whole
      stored[key] = { values: cut.dataSync() as Float32Array, shape: cut.shape, dtype: storedDtype(checkpoint, own.name) }
      if (cut !== whole) cut.dispose()
      whole.dispose()
    }
    return { ...stored, ...(await readReplaced(spec, plan, tensors, part, stored)) }
  } finally {
    disposePacked(packed)
  }
}

function keptNeurons({ blocks }: Plan, part: Part): readonly number[] | undefined {
  const mlp = blocks[blockOf(part)]?.mlp
  return isAttention(part) || mlp === undefined || mlp === 'removed' || mlp.kept === 'all' ? undefined : mlp.kept
}

/** Selects rows of what leads to neurons, columns of what leads away from them. */
function cutNeurons(key: string, whole: Tensor, kept: readonly number[]): Tensor {
  if (!/^(gate|up|down)/.test(key) || key === 'downBias') return whole
  const indices = tensor1d([...kept], 'int32')
  const cut = gather(whole, indices, key === 'down' ? 1 : 0)
  indices.dispose()
  return cut
}

async function readReplaced(
  spec: DecoderSpec,
  plan: Plan,
  tensors: PlanTensors | undefined,
  part: Part,
  stored: StoredPart,
): Promise<StoredPart> {
  const block = blockOf(part)
  const last = isAttention(part) ? 'output' : 'down'
  const nameOf = (key: string): string | undefined => {
    if (partReplaced(plan, part)) return trainedName(spec, part, key)
    if (!plan.blocks[block]?.replaced?.includes(last)) return undefined
    if (key === last) return replacedName(block, last, 'weight')
    return key === `${last}Bias` ? replacedName(block, last, 'bias') : undefined
  }
  const replaced: Record<string, TypedValues> = {}
  for (const [key, own] of Object.entries(stored)) {
    const name = nameOf(key)
    if (name === undefined || !tensors?.tensors.has(name)) continue
    const { shape } = tensors.tensors.get(name) as { shape: readonly number[] }
    replaced[key] = { ...own, values: await tensors.readFloat32(name), shape }
  }
  return replaced
}

/** The weights of a part as the decoder uses them, from its stored tensors. They belong to the caller. */
export function weightsOf(stored: Readonly<Record<string, StoredValues>>, spec: DecoderSpec, part: Part) {
  const packed: PackedPart = Object.fromEntries(
    Object.entries(stored).map(([key, { values, shape }]): [string, NamedTensor] => [
      key,
      { name: key, unpack: () => tensor(values, [...shape]), countNonFinite: () => 0, dispose: () => undefined },
    ]),
  )
  return unpackPart(packed, spec, part)
}
