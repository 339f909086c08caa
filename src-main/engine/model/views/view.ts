import { type Tensor1D, tensor1d } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { type BlockLayout, type DecoderSpec, layoutOf, takesHalves } from '#engine/architectures/spec.ts'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { offerNarrow } from '#engine/tensor/narrow.ts'
import type { Model } from '../model.ts'
import { storedBlocks } from '../weights/stored-blocks.ts'
import { disposePart } from '../weights/unpack.ts'
import type { Vocabulary } from '../weights/vocabulary.ts'
import { blockOf, type Part, type PartWeights, presentParts } from '../weights/weights.ts'
import { checkExperts } from './check-experts.ts'
import { gatherMixture } from './gather-mixture.ts'
import { gatherMlp, needsGather } from './gather-mlp.ts'
import { checkReplaced, expertDtype, type PlanTensors, readConstants } from './plan-tensors.ts'
import { readFinalNorm, replaceProjection } from './replace.ts'
import { checkRotations, sliceParts, sliceVocabulary } from './slice.ts'
import { layoutAfter } from './sliced-spec.ts'

/** How a view changes the weights of a part: copies, or the same weights if nothing changes. */
type Change = (part: Part, weights: PartWeights) => PartWeights | Promise<PartWeights>

interface ViewChanges {
  readonly plan?: Plan | undefined
  readonly change?: Change | undefined
  /** The kept neurons of an MLP, if nothing else of it changes. */
  readonly kept?: ((part: Part) => readonly number[] | 'all') | undefined
  /** Replaces the model's vocabulary; it belongs to the view. */
  readonly vocabulary?: Vocabulary | undefined
}

/**
 * A model as a plan leaves it: the same weights, skipping what is removed and gathering what is kept. The model does not change, so it can
 * have many views at once.
 */
export class ModelView {
  readonly model: Model
  readonly spec: DecoderSpec
  /** The remaining parts, in running order. */
  readonly parts: readonly Part[]
  /** The plan of the view; undefined for the whole model. */
  readonly plan: Plan | undefined
  /** Whether its stream between submodules is in another basis. */
  readonly sliced: boolean
  /** Whether its weights can be packed into 16 bits. */
  readonly takesHalves: boolean
  readonly #present: ReadonlySet<Part>
  readonly #change: Change | undefined
  readonly #kept: ViewChanges['kept']
  readonly #masks = new Map<Part, Tensor1D>()
  readonly #changed = new Map<Part, PartWeights>()
  readonly #vocabulary: Vocabulary | undefined

  constructor(model: Model, blocks: readonly BlockLayout[], { plan, change, kept, vocabulary }: ViewChanges = {}) {
    this.model = vocabulary ? { ...model, vocabulary } : model
    this.#vocabulary = vocabulary
    this.spec = { ...model.spec, blocks }
    this.plan = plan
    this.parts = presentParts(this.spec)
    this.sliced = plan?.slice !== undefined || model.spec.sliceWidth !== undefined
    this.takesHalves = takesHalves(model.spec)
    this.#present = new Set(this.parts)
    this.#change = change
    this.#kept = kept ?? (change ? undefined : () => 'all')
  }

  has(part: Part): boolean {
    return this.#present.has(part)
  }

  /** How many neurons an MLP has in this view, and whether they are neurons of the model's own MLP. */
  neuronsOf(part: Part): { readonly count: number; readonly shared: boolean } {
    return { count: layoutOf(this.spec, blockOf(part)).width, shared: this.#kept !== undefined }
  }

  /**
   * 1 for each neuron of the model's MLP that this view keeps, 0 for the others, [I]; undefined if it keeps all. It belongs to the view.
   */
  maskOf(part: Part): Tensor1D | undefined {
    const kept = this.#kept?.(part) ?? 'all'
    if (kept === 'all') return undefined
    const made = this.#masks.get(part) ?? maskOf(kept, layoutOf(this.model.spec, blockOf(part)).width)
    this.#masks.set(part, made)
    return made
  }

  /** The part that runs after a part. After the last one, it is the first of the next walk. */
  following(part: Part): Part | undefined {
    return this.parts[this.parts.indexOf(part) + 1] ?? this.parts[0]
  }

  /** Weights of a part until `release`. */
  async lease(part: Part, next?: Part): Promise<PartWeights> {
    const known = this.#changed.get(part)
    if (known) return known
    const { store } = this.model
    const whole = await store.lease(part, next !== undefined && this.#changed.has(next) ? undefined : next)
    if (!this.#change) return whole
    let own: PartWeights
    try {
      own = await this.#change(part, whole)
    } catch (error) {
      store.release(part, whole)
      throw error
    }
    if (own === whole) return whole
    if (store.streams) {
      store.release(part, whole)
      return own
    }
    store.exchange(part, whole)
    return this.#settle(part, own)
  }

  /** Keeps changed weights, unless another borrower was first. */
  #settle(part: Part, own: PartWeights): PartWeights {
    const first = this.#changed.get(part)
    if (first) disposePart(own)
    else {
      this.#changed.set(part, own)
      const { hasRoomToNarrow, narrowRoom } = this.model.store
      const kept = this.plan ? keptOf(this.plan, part) : 'all'
      if (hasRoomToNarrow) offerNarrow(own, narrowRoom, storedBlocks(this.model, part, own, kept))
    }
    return first ?? own
  }

  release(part: Part, weights: PartWeights): void {
    if (this.#changed.get(part) !== weights) this.model.store.release(part, weights)
  }

  /** Frees what was created for this view. The model stays open. */
  dispose(): void {
    for (const weights of this.#changed.values()) disposePart(weights)
    this.#changed.clear()
    for (const mask of this.#masks.values()) mask.dispose()
    this.#masks.clear()
    this.#vocabulary?.dispose()
  }
}

function maskOf(kept: readonly number[], width: number): Tensor1D {
  const mask = new Float32Array(width)
  for (const neuron of kept) mask[neuron] = 1
  return tensor1d(mask)
}

/** The whole model as a view. */
export function denseView(model: Model): ModelView {
  return new ModelView(model, model.spec.blocks)
}

/** The model as `plan` leaves it, with the tensors that the plan names. Throws if the plan does not fit the model. */
export function viewWithPlan(model: Model, plan: Plan, tensors?: PlanTensors): ModelView {
  const { spec, checkpoint } = model
  checkPlan(spec, plan)
  const blocks = plan.blocks.map((block, index) => layoutAfter(layoutOf(spec, index), block))
  checkReplaced(spec, blocks, plan, tensors)
  if (plan.slice) checkRotations(spec, plan.slice, tensors)
  const changes = [
    ...(plan.blocks.some(({ mlp }) => mlp !== 'removed' && needsGather(mlp)) ? [gatherKept(model, plan, tensors)] : []),
    ...(plan.blocks.some(({ replaced }) => replaced)
      ? [(part: Part, weights: PartWeights) => replaceProjection(part, weights, { checkpoint, spec, plan, tensors })]
      : []),
    ...(plan.slice && tensors ? [sliceParts(model, plan.slice, tensors)] : []),
  ]
  const vocabulary = tensors && vocabularyWith(model, plan, tensors)
  const onlyGathers = !plan.slice && !plan.finalNorm && plan.blocks.every(({ replaced }) => !replaced)
  const kept = onlyGathers ? (part: Part) => keptOf(plan, part) : undefined
  return new ModelView(model, blocks, { change: changes.length > 0 ? inTurn(changes) : undefined, plan, kept, vocabulary })
}

/** What replaces the model's vocabulary; undefined if the plan does not change it. */
function vocabularyWith(model: Model, { slice, finalNorm }: Plan, tensors: PlanTensors): Vocabulary | undefined {
  if (slice) return sliceVocabulary(model, slice, tensors)
  return finalNorm && model.vocabulary.withFinalNorm(readFinalNorm(model.spec, tensors))
}

/** The model as a plan leaves it, with the plan's tensors read from files. Without a plan, the whole model. */
export async function openView(model: Model, plan: Plan | null): Promise<ModelView> {
  if (!plan) return denseView(model)
  return viewWithPlan(model, plan, plan.tensors && (await StoredTensors.open(plan.tensors)))
}

/** The neurons of an MLP that a plan keeps. */
function keptOf({ blocks }: Plan, part: Part): readonly number[] | 'all' {
  const mlp = blocks[blockOf(part)]?.mlp
  return mlp === undefined || mlp === 'removed' || !needsGather(mlp) ? 'all' : (mlp.kept as readonly number[])
}

const gatherKept =
  ({ spec, checkpoint }: Pick<Model, 'spec' | 'checkpoint'>, { blocks }: Plan, tensors: PlanTensors | undefined): Change =>
  async (part, weights) => {
    const mlp = blocks[blockOf(part)]?.mlp
    if (weights.attention || mlp === undefined || mlp === 'removed' || !needsGather(mlp)) return weights
    if (weights.mlp) return { mlp: gatherMlp(weights.mlp, mlp) }
    const constants = mlp.constants && (await readConstants(blockOf(part), mlp.constants.length, tensors))
    try {
      return { mixture: gatherMixture(weights.mixture, mlp, constants, expertDtype(checkpoint, spec, blockOf(part))) }
    } finally {
      constants?.dispose()
    }
  }

const inTurn =
  (changes: readonly Change[]): Change =>
  async (part, whole) => {
    let own = whole
    for (const change of changes) {
      const before = own
      try {
        own = await change(part, before)
      } catch (error) {
        if (before !== whole) disposePart(before)
        throw error
      }
      if (own !== before && before !== whole) disposePart(before)
    }
    return own
  }

function checkPlan(spec: DecoderSpec, plan: Plan): void {
  if (plan.blocks.length !== spec.blocks.length) {
    throw new EspalierError(
      'invalid',
      `The plan describes ${plan.blocks.length} blocks, the model has ${spec.blocks.length}. Use the plan with the model that it was made for.`,
    )
  }
  if (spec.sliceWidth !== undefined) requireNothingRemoved(spec, plan)
  plan.blocks.forEach((block, index) => {
    if (block.mlp === 'removed') return
    checkExperts(spec, index, block.mlp)
    if (block.mlp.kept === 'all') return
    const { width } = layoutOf(spec, index)
    const wrong = block.mlp.kept.find((neuron, i, all) => neuron >= width || (i > 0 && neuron <= (all[i - 1] ?? -1)))
    if (wrong !== undefined || block.mlp.kept.length === 0) {
      throw new EspalierError(
        'invalid',
        `The plan's list of kept neurons of block ${index} must be ascending, not empty and below ${width}${wrong === undefined ? '' : `; it has ${wrong}`}.`,
      )
    }
  })
}

/** Parts of a sliced model connect different bases, so none can be left out, and the model cannot be sliced again. */
function requireNothingRemoved(spec: DecoderSpec, plan: Plan): void {
  const whole = plan.blocks.every(({ attention, mlp }) => attention === 'kept' && mlp !== 'removed' && !needsGather(mlp))
  if (whole && !plan.slice) return
  throw new EspalierError(
    'infeasible',
    `This model was sliced to ${spec.sliceWidth} of ${spec.hidden} channels and cannot be pruned further. Start from the dense model.`,
  )
}
