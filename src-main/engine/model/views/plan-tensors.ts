import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { Plan, Replaceable, Trainable } from '#contract/pruning/plan.ts'
import { type BlockLayout, type DecoderSpec, denseMlp, isConstant, type Projection } from '#engine/architectures/spec.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { attentionOf, blockOf, isAttention, mlpOf, type Part, partShapes } from '../weights/weights.ts'
import { keptExperts } from './kept-experts.ts'

/** The part of `StoredTensors` that applying a plan needs. */
export type PlanTensors = Pick<StoredTensors, 'tensors' | 'read' | 'readFloat32' | 'vector'>

/** The name of the plan's tensor that replaces the last projection of a submodule: its weight [D, kept columns], or its bias [D]. */
export const replacedName = (block: number, projection: Replaceable, kind: 'weight' | 'bias'): string =>
  `blocks.${block}.${projection}.${kind}`

/**
 * The name of the plan's tensor that replaces the down projection of an expert, [D, kept neurons]. `expert` is its number in the unpruned
 * model.
 */
export const expertDownName = (block: number, expert: number): string => `blocks.${block}.experts.${expert}.down.weight`

/** The name that a plan has for a part's submodule. */
const submoduleOf = (part: Part): Trainable => (isAttention(part) ? 'attention' : 'mlp')

/** Whether the plan replaces all tensors of a part. */
export const partReplaced = ({ blocks }: Plan, part: Part): boolean => blocks[blockOf(part)]?.replaced?.includes(submoduleOf(part)) ?? false

/**
 * The name of the plan's tensor for one tensor of a wholly replaced part, given its key in `partNames`. If both submodules of a block share
 * a norm, its name is the same for both.
 */
export function trainedName({ parallelResidual, block }: DecoderSpec, part: Part, key: string): string {
  const shared = parallelResidual && /^norm(Bias)?$/.test(key) && block(blockOf(part)).mlpNorm === undefined
  return `blocks.${blockOf(part)}.${shared ? 'both' : submoduleOf(part)}.${key}`
}

/** The name of the plan's tensor with the vectors that experts of a block became: [n, D], in the order of their numbers. */
export const constantsName = (block: number): string => `blocks.${block}.experts.constants`

/** Reads that tensor, which the caller disposes of. Throws if it is missing or has the wrong size. */
export async function readConstants(block: number, count: number, tensors: PlanTensors | undefined): Promise<Tensor2D> {
  const values = await tensors?.readFloat32(constantsName(block))
  if (!values || values.length % count !== 0)
    throw new EspalierError(
      'invalid',
      `The plan's tensor "${constantsName(block)}" is missing or does not have ${count} rows. Prune again.`,
    )
  return tensor2d(values, [count, values.length / count])
}

/** The name of the plan's tensor for the norm before the head. */
export const finalNormName = (kind: 'weight' | 'bias'): string => `final.norm.${kind}`

/**
 * The dtype of a stored tensor if it is a 16-bit one, otherwise F32. Computed weights are rounded to it, so that a view equals the saved
 * model.
 */
export function storedDtype(checkpoint: { tensors: ReadonlyMap<string, { dtype: string }> }, name: string): FloatDtype {
  const dtype = checkpoint.tensors.get(name)?.dtype
  return dtype === 'F16' || dtype === 'BF16' ? dtype : 'F32'
}

/** The same dtype for the down projections of a mixture's experts. */
export function expertDtype(checkpoint: Parameters<typeof storedDtype>[0], spec: DecoderSpec, block: number): FloatDtype {
  const expert = spec.block(block).mixture?.experts.find((one) => !isConstant(one))
  return expert && !isConstant(expert) ? storedDtype(checkpoint, expert.down.weight) : 'F32'
}

/**
 * Throws if a projection that the plan replaces was removed, or if its tensor is missing or has the wrong shape. `blocks` is what the plan
 * leaves.
 */
export function checkReplaced(spec: DecoderSpec, blocks: readonly BlockLayout[], plan: Plan, tensors: PlanTensors | undefined): void {
  checkTrained(spec, blocks, plan, tensors)
  for (const [block, { replaced = [] }] of plan.blocks.entries()) {
    for (const projection of replaced.filter((one) => one === 'output' || one === 'down')) {
      const { attention = false, width = 0, experts } = blocks[block] ?? {}
      if (projection === 'down' && experts !== undefined) {
        checkExpertDowns(spec, plan, tensors, { block, width })
        continue
      }
      if (projection === 'output' ? !attention : width === 0)
        throw wrong(block, projection, 'it is removed, so it cannot be replaced. Leave it out of `replaced`')
      const { rows, columns, bias } = lastProjection(spec, block, projection)
      requireShape(tensors, replacedName(block, projection, 'weight'), [rows, projection === 'down' ? width : columns])
      const biasName = replacedName(block, projection, 'bias')
      if (!tensors?.tensors.has(biasName)) continue
      if (!bias) throw wrong(block, projection, `the ${spec.family} family has no bias there. Leave ${biasName} out`)
      requireShape(tensors, biasName, [rows])
    }
  }
}

/** Checks the down projections of experts. The plan need not replace those of all experts, but of at least one. */
function checkExpertDowns(
  spec: DecoderSpec,
  plan: Plan,
  tensors: PlanTensors | undefined,
  { block, width }: { readonly block: number; readonly width: number },
): void {
  const found = replacedExperts(spec, plan, tensors, block)
  if (found.length === 0) throw wrong(block, 'down', 'the plan has no tensor for any of its experts. Prune again')
  for (const { name } of found) requireShape(tensors, name, [spec.hidden, width])
}

/** The experts whose down projections the plan replaces: their indices among the remaining experts, and the names of the tensors. */
export function replacedExperts(
  spec: DecoderSpec,
  plan: Plan,
  tensors: { readonly tensors: Pick<ReadonlyMap<string, unknown>, 'has'> } | undefined,
  block: number,
): { readonly place: number; readonly name: string }[] {
  const { mlp = 'removed', replaced } = plan.blocks[block] ?? {}
  if (mlp === 'removed' || !replaced?.includes('down')) return []
  const kept = keptExperts(mlp, spec.block(block).mixture?.experts.length ?? 0)
  return kept.flatMap(({ number }, place) => {
    const name = expertDownName(block, number)
    return tensors?.tensors.has(name) ? [{ place, name }] : []
  })
}

/** Checks wholly replaced submodules, and the norm before the head. */
function checkTrained(spec: DecoderSpec, blocks: readonly BlockLayout[], plan: Plan, tensors: PlanTensors | undefined): void {
  const remaining = { ...spec, blocks }
  for (const [block, { replaced = [] }] of plan.blocks.entries()) {
    for (const one of replaced) {
      if (one !== 'attention' && one !== 'mlp') continue
      const { attention = false, width = 0 } = blocks[block] ?? {}
      if (one === 'attention' ? !attention : width === 0)
        throw wrong(block, one, 'it is removed, so it cannot be replaced. Leave it out of `replaced`')
      const part = one === 'attention' ? attentionOf(block) : mlpOf(block)
      for (const [key, shape] of Object.entries(partShapes(remaining, part))) requireShape(tensors, trainedName(spec, part, key), shape)
    }
  }
  if (!plan.finalNorm) return
  requireShape(tensors, finalNormName('weight'), [spec.hidden])
  if (spec.finalNorm.bias) requireShape(tensors, finalNormName('bias'), [spec.hidden])
}

const wrong = (block: number, projection: Replaceable | Trainable, what: string) =>
  new EspalierError(
    'invalid',
    `The plan replaces the ${projection === 'output' || projection === 'down' ? `${projection} projection` : projection} of block ${block}: ${what}.`,
  )

function requireShape(tensors: PlanTensors | undefined, name: string, expected: readonly number[]): void {
  const shape = tensors?.tensors.get(name)?.shape
  if (!shape)
    throw new EspalierError('invalid', `The plan's tensor "${name}" is missing: the plan cannot be applied without it. Prune again.`)
  if (shape.join() !== expected.join())
    throw new EspalierError('invalid', `The plan's tensor "${name}" has shape [${shape.join(', ')}]; it must be [${expected.join(', ')}].`)
}

/** The last projection of a block's attention or MLP, which a repair replaces. */
export const lastProjection = (spec: DecoderSpec, block: number, projection: Replaceable): Projection =>
  projection === 'output' ? spec.block(block).output : denseMlp(spec.block(block)).down

/** A projection of the model, and the names of the plan's tensors that replace it, which have only the kept columns. */
export interface ReplacedProjection {
  readonly projection: Projection
  readonly weight: string
  readonly bias: string | undefined
}

/** Returns a block's projection with the names of the tensors that replace it, or undefined if the plan keeps the model's own. */
export function replacedProjection(
  spec: DecoderSpec,
  plan: Plan,
  tensors: PlanTensors | undefined,
  block: number,
  projection: Replaceable,
): ReplacedProjection | undefined {
  if (!plan.blocks[block]?.replaced?.includes(projection)) return undefined
  const bias = replacedName(block, projection, 'bias')
  return {
    projection: lastProjection(spec, block, projection),
    weight: replacedName(block, projection, 'weight'),
    bias: tensors?.tensors.has(bias) ? bias : undefined,
  }
}
