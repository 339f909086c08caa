import type { Tensor } from '@tensorflow/tfjs-core'
import { gather, tensor, tensor1d } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import type { Model } from '#engine/model/model.ts'
import type { PlanTensors } from '#engine/model/views/plan-tensors.ts'
import { partReplaced, replacedName, storedDtype, trainedName } from '#engine/model/views/plan-tensors.ts'
import { unpackPart } from './unpack.ts'
import type { NamedTensor, PackedPart, Part } from './weights.ts'
import { blockOf, disposePacked, isAttention, readPart } from './weights.ts'

/** The values of a tensor as a checkpoint stores it, converted to float32. */
export interface StoredValues {
  readonly values: Float32Array
  readonly shape: readonly number[]
}

/** The same with the dtype in which the checkpoint stores it. */
type TypedValues = StoredValues & { readonly dtype: FloatDtype }

/**
 * The tensors of a part as the checkpoint stores them, under the keys of `partNames`. Scales and offsets that the decoder folds into
 * weights are not applied yet.
 */
export type StoredPart = Readonly<Record<string, TypedValues>>

/** Reads the stored tensors of a part as a plan leaves it: with kept neurons only, and with the plan's tensors where it replaces some. */
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
    // Keys are sorted, because reads finish in any order, and files of plans are compared by their hash.
    for (const key of Object.keys(packed).sort()) {
      const named = packed[key] as NamedTensor
      const whole = named.unpack()
      const cut = kept ? cutNeurons(key, whole, kept) : whole
      stored[key] = { values: cut.dataSync() as Float32Array, shape: cut.shape, dtype: storedDtype(checkpoint, named.name) }
      if (cut !== whole) cut.dispose()
      whole.dispose()
    }
    return { ...stored, ...(await readReplaced(spec, plan, tensors, part, stored)) }
  } finally {
    disposePacked(packed)
  }
}

function keptNeurons({ blocks }: Plan, part: Part): readonly number[] | undefined {
  if (isAttention(part)) return undefined
  const mlp = blocks[blockOf(part)]?.mlp
  if (mlp === undefined || mlp === 'removed' || mlp.kept === 'all') return undefined
  return mlp.kept
}

/** The axis of neurons in the tensors of an MLP that have one. */
const neuronAxes: Readonly<Record<string, 0 | 1>> = { gate: 0, gateBias: 0, up: 0, upBias: 0, down: 1 }

/** Selects the kept neurons of a tensor. Tensors without an axis of neurons are returned unchanged. */
function cutNeurons(key: string, whole: Tensor, kept: readonly number[]): Tensor {
  const axis = neuronAxes[key]
  if (axis === undefined) return whole
  const indices = tensor1d([...kept], 'int32')
  const cut = gather(whole, indices, axis)
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
  for (const [key, original] of Object.entries(stored)) {
    const name = nameOf(key)
    if (name === undefined || !tensors?.tensors.has(name)) continue
    const { shape } = tensors.tensors.get(name) as { shape: readonly number[] }
    replaced[key] = { ...original, values: await tensors.readFloat32(name), shape }
  }
  return replaced
}

/** Turns the stored tensors of a part into weights as the decoder uses them, which belong to the caller. */
export const weightsOf = (stored: Readonly<Record<string, StoredValues>>, spec: DecoderSpec, part: Part) =>
  weightsFrom(Object.fromEntries(Object.entries(stored).map(([key, own]) => [key, () => tensorOf(own)])), spec, part)

/** The same for tensors that are made when they are needed. */
export function weightsFrom(made: Readonly<Record<string, () => Tensor>>, spec: DecoderSpec, part: Part) {
  const named: PackedPart = Object.fromEntries(
    Object.entries(made).map(([key, unpack]): [string, NamedTensor] => [
      key,
      { name: key, unpack, countNonFinite: () => 0, dispose: () => undefined },
    ]),
  )
  return unpackPart(named, spec, part)
}

export const tensorOf = ({ values, shape }: StoredValues): Tensor => tensor(values, [...shape])
