import { type Tensor, type Tensor1D, type Tensor2D, tensor } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { cloneTensors } from '#engine/tensor/clone.ts'
import { roundTo } from '../weights/round.ts'
import { blockOf, isAttention, type Part, type PartWeights } from '../weights/weights.ts'
import { type PlanTensors, type ReplacedProjection, replacedProjection, storedDtype } from './plan-tensors.ts'

interface Source {
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly plan: Plan
  readonly tensors: PlanTensors | undefined
}

/** The weights with the projection that the plan replaces in this part, in copies of their own; the same ones where it replaces none. */
export async function replaceProjection(part: Part, weights: PartWeights, source: Source): Promise<PartWeights> {
  const { spec, plan, tensors } = source
  const found = replacedProjection(spec, plan, tensors, blockOf(part), isAttention(part) ? 'output' : 'down')
  if (!found) return weights
  const [weight, bias] = await readReplaced(found, source)
  return withProjection(weights, weight as Tensor2D, bias as Tensor1D | undefined)
}

/** Copies of a part's weights with another last projection, which takes the given tensors over. */
export function withProjection(weights: PartWeights, weight: Tensor2D, bias?: Tensor1D): PartWeights {
  if (weights.attention) return { attention: copyWith(weights.attention, { output: weight, ...(bias ? { outputBias: bias } : {}) }) }
  return { mlp: copyWith(weights.mlp, { down: weight, ...(bias ? { downBias: bias } : {}) }) }
}

/** Rounded to what the checkpoint would hold, so that the view answers as the saved model does. */
async function readReplaced({ projection, weight, bias }: ReplacedProjection, { checkpoint, tensors }: Source): Promise<Tensor[]> {
  const names = bias === undefined ? [weight] : [weight, bias]
  const read = await Promise.all(names.map(async (name) => ({ name, values: await tensors?.readFloat32(name) })))
  return read.map(({ name, values }) => {
    const exact = tensor(values as Float32Array, [...(tensors?.tensors.get(name)?.shape ?? [])])
    const rounded = roundTo(exact, storedDtype(checkpoint, projection.weight))
    exact.dispose()
    return rounded
  })
}

function copyWith<W extends NonNullable<PartWeights['attention'] | PartWeights['mlp']>>(weights: W, changed: Record<string, Tensor>): W {
  return Object.fromEntries(Object.entries(weights).map(([key, value]) => [key, changed[key] ?? cloneTensors(value)])) as W
}
