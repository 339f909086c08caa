import { type Tensor1D, tensor1d } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { Plan, VocabularyPlan } from '#contract/pruning/plan.ts'
import { type BlockLayout, type DecoderSpec, layoutOf, takesBf16 } from '#engine/architectures/spec.ts'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { offerNarrow } from '#engine/tensor/narrow.ts'
import type { Model } from '../model.ts'
import type { Vocabulary } from '../parts/head/embedding-and-head.ts'
import { storedBlocks } from '../weights/stored-blocks.ts'
import { disposePart, rowFactors } from '../weights/unpack.ts'
import { blockOf, type Part, type PartWeights, presentParts } from '../weights/weights.ts'
import { gatherMixture, gatherMlp, needsGather } from './gather-mlp.ts'
import { checkExperts } from './kept-experts.ts'
import { checkReplaced, expertDtype, type PlanTensors, readConstants } from './plan-tensors.ts'
import { readFinalNorm, replaceProjection } from './replace.ts'
import { checkRotations, layoutAfter, sliceParts, sliceVocabulary } from './slice.ts'

/** Changes the weights of a part for a view. Returns changed copies, or the same weights if nothing changes. */
type Change = (part: Part, weights: PartWeights) => PartWeights | Promise<PartWeights>

interface ViewChanges {
  readonly plan?: Plan | undefined
  readonly change?: Change | undefined
  /** Returns the kept neurons of an MLP. Only set if the plan replaces and slices nothing. */
  readonly kept?: ((part: Part) => readonly number[] | 'all') | undefined
  /** Replaces the model's vocabulary. It belongs to the view. */
  readonly vocabulary?: Vocabulary | undefined
  /** Whether changed weights are made again for each lease, and not kept. */
  readonly passing?: boolean | undefined
}

/**
 * A model as a plan leaves it. The view uses the model's weights, skips removed parts and gathers kept neurons. The model does not change,
 * so it can have many views at once.
 */
export class ModelView {
  readonly model: Model
  readonly spec: DecoderSpec
  /** The remaining parts, in running order. */
  readonly parts: readonly Part[]
  /** The plan of the view; undefined if it shows the whole model. */
  readonly plan: Plan | undefined
  /** Whether the stream between submodules is in another basis (SliceGPT). */
  readonly sliced: boolean
  /** Whether the weights can be packed into 16 bits. */
  readonly takesBf16: boolean
  readonly #present: ReadonlySet<Part>
  readonly #change: Change | undefined
  readonly #kept: ViewChanges['kept']
  readonly #masks = new Map<Part, Tensor1D>()
  readonly #changed = new Map<Part, PartWeights>()
  readonly #vocabulary: Vocabulary | undefined
  readonly #passing: boolean

  constructor(model: Model, blocks: readonly BlockLayout[], { plan, change, kept, vocabulary, passing = false }: ViewChanges = {}) {
    this.model = vocabulary ? { ...model, vocabulary } : model
    this.#vocabulary = vocabulary
    this.spec = { ...model.spec, blocks, vocabulary: vocabulary?.size ?? model.spec.vocabulary }
    this.plan = plan
    this.parts = presentParts(this.spec)
    this.sliced = plan?.slice !== undefined || model.spec.sliceWidth !== undefined
    this.takesBf16 = takesBf16(model.spec)
    this.#present = new Set(this.parts)
    this.#change = change
    this.#kept = kept ?? (change ? undefined : () => 'all')
    this.#passing = passing
  }

  has(part: Part): boolean {
    return this.#present.has(part)
  }

  /** How many neurons an MLP has in this view, and whether they are unchanged neurons of the model's MLP (`shared`). */
  neuronsOf(part: Part): { readonly count: number; readonly shared: boolean } {
    return { count: layoutOf(this.spec, blockOf(part)).width, shared: this.#kept !== undefined }
  }

  /**
   * A vector [I] with 1 for each neuron of the model's MLP that this view keeps and 0 for all others, which belongs to the view. Undefined
   * if the view keeps all neurons.
   */
  maskOf(part: Part): Tensor1D | undefined {
    const kept = this.#kept?.(part) ?? 'all'
    if (kept === 'all') return undefined
    const made = this.#masks.get(part) ?? maskOf(kept, layoutOf(this.model.spec, blockOf(part)).width)
    this.#masks.set(part, made)
    return made
  }

  /** The part that runs after a part. After the last part, it is the first one, because the next walk starts there. */
  following(part: Part): Part | undefined {
    return this.parts[this.parts.indexOf(part) + 1] ?? this.parts[0]
  }

  /** Leases the weights of a part until `release`. */
  async lease(part: Part, next?: Part): Promise<PartWeights> {
    const known = this.#changed.get(part)
    if (known) return known
    const { store } = this.model
    const whole = await store.lease(part, next !== undefined && this.#changed.has(next) ? undefined : next)
    if (!this.#change) return whole
    let changed: PartWeights
    try {
      changed = await this.#change(part, whole)
    } catch (error) {
      store.release(part, whole)
      throw error
    }
    if (changed === whole) return whole
    if (store.streams || this.#passing) {
      store.release(part, whole)
      return changed
    }
    store.releaseCopied(part, whole)
    return this.#settle(part, changed)
  }

  /** Keeps changed weights for later leases, unless a concurrent lease has already done so. Returns the weights that are kept. */
  #settle(part: Part, changed: PartWeights): PartWeights {
    const first = this.#changed.get(part)
    if (first) disposePart(changed)
    else {
      this.#changed.set(part, changed)
      const { hasRoomToNarrow, narrowRoom } = this.model.store
      const kept = this.plan ? keptOf(this.plan, part) : 'all'
      const factors = rowFactors(this.model.spec, changed)
      if (hasRoomToNarrow) offerNarrow(changed, narrowRoom, storedBlocks(this.model, part, changed, kept), factors)
    }
    return first ?? changed
  }

  release(part: Part, weights: PartWeights): void {
    if (this.#changed.get(part) !== weights) this.model.store.release(part, weights)
  }

  /** Frees everything that was created for this view. The model stays open. */
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

/** Returns a view of the whole model. */
export function denseView(model: Model): ModelView {
  return new ModelView(model, model.spec.blocks)
}

/**
 * Returns a view of the model as `plan` leaves it, with the tensors that the plan names. Throws if the plan does not fit the model. A
 * `passing` view goes through the parts beside the whole model: it makes its weights again for each lease, because keeping them would take
 * their memory twice.
 */
export function viewWithPlan(model: Model, plan: Plan, tensors?: PlanTensors, { passing = false } = {}): ModelView {
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
  const vocabulary = vocabularyWith(model, plan, tensors)
  const onlyGathers =
    !plan.slice &&
    !plan.finalNorm &&
    plan.blocks.every(({ replaced, mlp }) => !replaced && (mlp === 'removed' || !(mlp.inputs || mlp.outputs)))
  const kept = onlyGathers ? (part: Part) => keptOf(plan, part) : undefined
  return new ModelView(model, blocks, { change: changes.length > 0 ? inTurn(changes) : undefined, plan, kept, vocabulary, passing })
}

/** Makes the vocabulary that replaces the model's. Returns undefined if the plan does not change it. */
function vocabularyWith(model: Model, { slice, finalNorm, vocabulary }: Plan, tensors: PlanTensors | undefined): Vocabulary | undefined {
  if (slice && tensors) return sliceVocabulary(model, slice, tensors)
  const norm = finalNorm && tensors ? readFinalNorm(model.spec, tensors) : undefined
  if (vocabulary) return model.vocabulary.keeping(vocabulary.kept, norm)
  return norm && model.vocabulary.withFinalNorm(norm)
}

/** Returns a view of the model as a plan leaves it, and opens the files of the plan's tensors. Without a plan, it is the whole model. */
export async function openView(model: Model, plan: Plan | null): Promise<ModelView> {
  if (!plan) return denseView(model)
  return viewWithPlan(model, plan, plan.tensors && (await StoredTensors.open(plan.tensors)))
}

/** The neurons of an MLP that a plan keeps, or `all`. */
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
    let current = whole
    for (const change of changes) {
      const before = current
      try {
        current = await change(part, before)
      } catch (error) {
        if (before !== whole) disposePart(before)
        throw error
      }
      if (current !== before && before !== whole) disposePart(before)
    }
    return current
  }

function checkPlan(spec: DecoderSpec, plan: Plan): void {
  if (plan.blocks.length !== spec.blocks.length) {
    throw new EspalierError(
      'invalid',
      `The plan describes ${plan.blocks.length} blocks, but the model has ${spec.blocks.length}. Use the plan with the model that it was made for.`,
    )
  }
  if (spec.sliceWidth !== undefined) requireNothingRemoved(spec, plan)
  if (plan.vocabulary) checkRows(spec, plan, plan.vocabulary)
  plan.blocks.forEach((block, index) => {
    if (block.mlp === 'removed') return
    checkExperts(spec, index, block.mlp)
    for (const channels of [block.mlp.inputs, block.mlp.outputs]) if (channels) requireAscending(channels, spec.hidden, 'channels', index)
    if (block.mlp.kept === 'all') return
    const { width } = layoutOf(spec, index)
    requireAscending(block.mlp.kept, width, 'neurons', index)
  })
}

/** Throws if a plan does not list rows of the vocabulary in order, or slices the embedding too. */
function checkRows(spec: DecoderSpec, { slice }: Plan, { kept }: VocabularyPlan): void {
  if (slice || spec.sliceWidth !== undefined)
    throw new EspalierError('infeasible', 'Rows of the vocabulary of a sliced model cannot be removed. Start from the dense model.')
  const wrong = outOfOrder(kept, spec.vocabulary)
  if (wrong === undefined && kept.length > 0) return
  throw new EspalierError(
    'invalid',
    `The plan's list of kept rows of the vocabulary must be ascending, not empty and below ${spec.vocabulary}${wrong === undefined ? '' : `, but it has ${wrong}`}.`,
  )
}

const outOfOrder = (kept: readonly number[], limit: number): number | undefined =>
  kept.find((number, place) => !(number >= 0 && number < limit) || (place > 0 && number <= (kept[place - 1] ?? -1)))

function requireAscending(kept: readonly number[], limit: number, what: 'neurons' | 'channels', block: number): void {
  const wrong = outOfOrder(kept, limit)
  if (wrong === undefined && kept.length > 0) return
  throw new EspalierError(
    'invalid',
    `The plan's list of kept ${what} of block ${block} must be ascending, not empty and below ${limit}${wrong === undefined ? '' : `, but it has ${wrong}`}.`,
  )
}

/** Throws if a plan prunes a sliced model. Its parts connect different bases, so none can be left out, and it cannot be sliced again. */
function requireNothingRemoved(spec: DecoderSpec, plan: Plan): void {
  const whole = plan.blocks.every(({ attention, mlp }) => attention === 'kept' && mlp !== 'removed' && !needsGather(mlp))
  if (whole && !plan.slice) return
  throw new EspalierError(
    'infeasible',
    `This model was sliced to ${spec.sliceWidth} of ${spec.hidden} channels and cannot be pruned further. Start from the dense model.`,
  )
}
