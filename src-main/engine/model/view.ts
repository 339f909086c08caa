import { gather, mul, reshape, type Tensor, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { MlpPlan, Plan } from '#contract/plan.ts'
import type { Model } from './model.ts'
import { type PlanTensors, slicedView } from './slice.ts'
import type { BlockLayout, DecoderSpec } from './spec.ts'
import type { Vocabulary } from './vocabulary.ts'
import { blockOf, disposePart, isAttention, type MlpWeights, type Part, type PartWeights, presentParts } from './weights.ts'

/**
 * A model as a plan leaves it: the same weights, with what is removed skipped and what is kept gathered.
 * Nothing of the model changes, so many views of one model may live side by side.
 */
export class ModelView {
  readonly model: Model
  readonly spec: DecoderSpec
  /** The parts that are left, in running order. */
  readonly parts: readonly Part[]
  readonly #transform: ((part: Part, weights: PartWeights) => PartWeights) | undefined
  readonly #gathered = new Map<Part, PartWeights>()
  readonly #vocabulary: Vocabulary | undefined

  /** `vocabulary` stands in for the model's and belongs to the view. */
  constructor(
    model: Model,
    blocks: readonly BlockLayout[],
    transform?: (part: Part, weights: PartWeights) => PartWeights,
    vocabulary?: Vocabulary,
  ) {
    this.model = vocabulary ? { ...model, vocabulary } : model
    this.#vocabulary = vocabulary
    this.spec = { ...model.spec, blocks }
    this.parts = presentParts(this.spec)
    this.#transform = transform
  }

  /** The part that runs behind a part; behind the last one, the first of the next walk. */
  following(part: Part): Part | undefined {
    return this.parts[this.parts.indexOf(part) + 1] ?? this.parts[0]
  }

  /** Weights of a part until `release`. */
  async lease(part: Part, next?: Part): Promise<PartWeights> {
    const gathered = this.#gathered.get(part)
    if (gathered) return gathered
    const whole = await this.model.store.lease(part, next !== undefined && this.#gathered.has(next) ? undefined : next)
    if (!this.#transform) return whole
    const own = this.#transform(part, whole)
    if (own === whole) return whole
    if (this.model.store.streams) {
      this.model.store.release(part, whole)
    } else {
      this.#gathered.set(part, own)
      this.model.store.exchange(part, whole)
    }
    return own
  }

  release(part: Part, weights: PartWeights): void {
    if (this.#gathered.get(part) !== weights) this.model.store.release(part, weights)
  }

  /** Frees what was gathered for this view; the model stays open. */
  dispose(): void {
    for (const weights of this.#gathered.values()) disposePart(weights)
    this.#gathered.clear()
    this.#vocabulary?.dispose()
  }
}

/** The whole model as a view. */
export function denseView(model: Model): ModelView {
  return new ModelView(model, model.spec.blocks)
}

/** The model as `plan` leaves it; a sliced one needs the plan's tensors. Throws when the plan does not fit the model. */
export function viewWithPlan(model: Model, plan: Plan, tensors?: PlanTensors): ModelView {
  checkPlan(model.spec, plan)
  if (model.spec.sliceWidth !== undefined) requireNothingRemoved(model.spec, plan)
  if (plan.slice) return slicedView(model, plan.slice, tensors)
  const blocks = plan.blocks.map((block, index) => layoutOf(model.spec, index, block))
  const pruned = plan.blocks.some((block) => block.mlp !== 'removed' && needsGather(block.mlp))
  if (!pruned) return new ModelView(model, blocks)
  return new ModelView(model, blocks, (part, weights) => {
    const mlp = plan.blocks[blockOf(part)]?.mlp
    if (isAttention(part) || !weights.mlp || mlp === undefined || mlp === 'removed' || !needsGather(mlp)) return weights
    return { mlp: gatherMlp(weights.mlp, mlp) }
  })
}

/** Parts of a sliced model stand between different bases, so none of them can be left out, and it cannot be sliced again. */
function requireNothingRemoved(spec: DecoderSpec, plan: Plan): void {
  const whole = plan.blocks.every(({ attention, mlp }) => attention === 'kept' && mlp !== 'removed' && !needsGather(mlp))
  if (whole && !plan.slice) return
  throw new EspalierError(
    'infeasible',
    `This model was sliced to ${spec.sliceWidth} of ${spec.hidden} channels and cannot be pruned further. Start from the dense model.`,
  )
}

type KeptMlp = Exclude<MlpPlan, 'removed'>
const needsGather = (mlp: KeptMlp) => mlp.kept !== 'all' || mlp.inputs !== undefined || mlp.outputs !== undefined

function layoutOf(spec: DecoderSpec, index: number, block: Plan['blocks'][number]): BlockLayout {
  const dense = spec.blocks[index] as BlockLayout
  const width = block.mlp === 'removed' ? 0 : block.mlp.kept === 'all' ? dense.width : block.mlp.kept.length
  return { attention: dense.attention && block.attention === 'kept', width }
}

/** Neurons that stay, gathered in index order; hidden channels that do not stay are zeroed, so that widths outside the MLP hold. */
function gatherMlp(weights: MlpWeights, plan: KeptMlp): MlpWeights {
  return tidy(() => {
    const width = weights.down.shape[0]
    const inputs = plan.inputs && onlyThese(plan.inputs, weights.up.shape[1])
    const outputs = plan.outputs && reshape<import('@tensorflow/tfjs-core').Rank.R2>(onlyThese(plan.outputs, width), [width, 1])
    const kept = plan.kept === 'all' ? undefined : tensor1d(plan.kept, 'int32')
    const rows = <T extends Tensor>(x: T): T => (kept ? gather(x, kept, 0) : (x.clone() as T))
    const narrow = (x: Tensor2D): Tensor2D => (inputs ? mul(rows(x), inputs) : rows(x))
    const down = kept ? gather(weights.down, kept, 1) : weights.down.clone()
    return {
      norm: {
        ...weights.norm,
        ...(weights.norm.weight ? { weight: weights.norm.weight.clone() } : {}),
        ...(weights.norm.bias ? { bias: weights.norm.bias.clone() } : {}),
      },
      up: narrow(weights.up),
      down: outputs ? mul<Tensor2D>(down, outputs) : down,
      ...(weights.gate ? { gate: narrow(weights.gate) } : {}),
      ...(weights.gateBias ? { gateBias: rows(weights.gateBias) } : {}),
      ...(weights.upBias ? { upBias: rows(weights.upBias) } : {}),
      ...(weights.downBias ? { downBias: weights.downBias.clone() } : {}),
    }
  }) as never
}

function onlyThese(indices: readonly number[], size: number): Tensor1D {
  const ones = new Float32Array(size)
  for (const index of indices) ones[index] = 1
  return tensor1d(ones)
}

function checkPlan(spec: DecoderSpec, plan: Plan): void {
  if (plan.blocks.length !== spec.blocks.length) {
    throw new EspalierError(
      'invalid',
      `The plan describes ${plan.blocks.length} blocks, the model has ${spec.blocks.length}. Use the plan with the model that it was made for.`,
    )
  }
  plan.blocks.forEach((block, index) => {
    if (block.mlp === 'removed' || block.mlp.kept === 'all') return
    const width = spec.blocks[index]?.width ?? 0
    const wrong = block.mlp.kept.find((neuron, i, all) => neuron >= width || (i > 0 && neuron <= (all[i - 1] ?? -1)))
    if (wrong !== undefined || block.mlp.kept.length === 0) {
      throw new EspalierError(
        'invalid',
        `The plan's list of kept neurons of block ${index} must be ascending, not empty and below ${width}${wrong === undefined ? '' : `; it has ${wrong}`}.`,
      )
    }
  })
}
