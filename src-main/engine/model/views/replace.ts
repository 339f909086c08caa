import { Tensor, type Tensor1D, type Tensor2D, tensor, tensor1d, tensor2d } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { type DecoderSpec, isConstant } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { type StoredValues, weightsOf } from '#engine/model/weights/stored-part.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { cloneTensors } from '#engine/tensor/tidied.ts'
import { disposePart, normOf, roundTo } from '../weights/unpack.ts'
import {
  blockOf,
  isAttention,
  isUnread,
  type MixtureWeights,
  type MlpWeights,
  mlpOfWeights,
  type Part,
  type PartWeights,
  partShapes,
  type UnreadExpert,
} from '../weights/weights.ts'
import {
  finalNormName,
  type PlanTensors,
  partReplaced,
  type ReplacedProjection,
  replacedExperts,
  replacedProjection,
  storedDtype,
  trainedName,
} from './plan-tensors.ts'

interface Source {
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly plan: Plan
  readonly tensors: PlanTensors | undefined
}

/** Copies weights with the plan's replacements for this part. Returns the same weights if the plan replaces nothing in it. */
export async function replaceProjection(part: Part, weights: PartWeights, source: Source): Promise<PartWeights> {
  const { spec, plan, tensors } = source
  if (weights.mixture) return plan.blocks[blockOf(part)]?.replaced ? replaceExperts(weights.mixture, blockOf(part), source) : weights
  if (partReplaced(plan, part)) return readTrained(part, source)
  const found = replacedProjection(spec, plan, tensors, blockOf(part), isAttention(part) ? 'output' : 'down')
  if (!found) return weights
  const [weight, bias] = await readReplaced(found, source)
  return withProjection(weights, weight as Tensor2D, bias as Tensor1D | undefined)
}

async function replaceExperts(mixture: MixtureWeights, block: number, { spec, plan, tensors }: Source): Promise<PartWeights> {
  const downs = new Map<number, Down>()
  try {
    for (const { place, name } of replacedExperts(spec, plan, tensors, block)) {
      const read = async (): Promise<Tensor2D> => {
        // The values were rounded to the checkpoint's type when they were stored.
        const values = (await tensors?.readFloat32(name)) as Float32Array
        return tensor2d(values, [spec.hidden, values.length / spec.hidden])
      }
      downs.set(place, isUnread(at(mixture.experts, place)) ? read : await read())
    }
    return { mixture: withDowns(mixture, downs) }
  } catch (error) {
    for (const down of downs.values()) if (down instanceof Tensor) down.dispose()
    throw error
  }
}

/** A down projection, or a function that reads it when the expert is needed. */
type Down = Tensor2D | (() => Promise<Tensor2D>)

/** Copies a mixture's weights with new down projections for the experts at these indices. */
function withDowns({ experts, ...others }: MixtureWeights, downs: ReadonlyMap<number, Down>): MixtureWeights {
  return {
    ...cloneTensors(others),
    experts: experts.map((expert, place) => {
      const down = downs.get(place)
      if (isUnread(expert)) return typeof down === 'function' ? withDownLater(expert, down) : expert
      return down instanceof Tensor && !isConstant(expert) ? (copyWith(expert, { down }) as MlpWeights) : cloneTensors(expert)
    }),
  }
}

const withDownLater = ({ read, ...expert }: UnreadExpert, readDown: () => Promise<Tensor2D>): UnreadExpert => ({
  ...expert,
  async read() {
    const weights = await read()
    weights.down.dispose()
    try {
      return { ...weights, down: await readDown() }
    } catch (error) {
      disposePart({ mlp: weights })
      throw error
    }
  },
})

/** Reads a part whose tensors all come from the plan. */
async function readTrained(part: Part, { spec, tensors }: Source): Promise<PartWeights> {
  const stored: Record<string, StoredValues> = {}
  for (const key of Object.keys(partShapes(spec, part))) {
    const name = trainedName(spec, part, key)
    const { shape = [] } = tensors?.tensors.get(name) ?? {}
    // The values were rounded to the checkpoint's type when they were stored.
    stored[key] = { values: (await tensors?.readFloat32(name)) as Float32Array, shape }
  }
  return weightsOf(stored, spec, part)
}

/** Reads the norm before the head from the plan's tensors. */
export function readFinalNorm(spec: DecoderSpec, tensors: PlanTensors): NormWeights {
  const vector = (kind: 'weight' | 'bias') => tensor1d(tensors.vector(finalNormName(kind)))
  return normOf(spec.norm, vector('weight'), spec.finalNorm.bias ? vector('bias') : undefined, spec.logitScale)
}

/** Copies a part's weights with a new last projection, and takes ownership of the given tensors. */
export function withProjection(weights: PartWeights, weight: Tensor2D, bias?: Tensor1D): PartWeights {
  if (weights.attention) return { attention: copyWith(weights.attention, { output: weight, ...(bias ? { outputBias: bias } : {}) }) }
  return { mlp: copyWith(mlpOfWeights(weights), { down: weight, ...(bias ? { downBias: bias } : {}) }) }
}

/** Reads the tensors that replace a projection, rounded to the checkpoint's type, so that the view equals the saved model. */
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
