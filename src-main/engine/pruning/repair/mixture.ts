import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairedProjection } from '#contract/pruning/repair.ts'
import { isConstant, layoutOf } from '#engine/architectures/spec.ts'
import type { NamedTensor } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { keptExperts } from '#engine/model/views/kept-experts.ts'
import { expertDownName, expertDtype } from '#engine/model/views/plan-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { roundTo } from '#engine/model/weights/round.ts'
import { disposePart } from '#engine/model/weights/unpack.ts'
import { blockOf, isUnread, type PartWeights } from '#engine/model/weights/weights.ts'
import { MixtureFit } from './mixture-fit.ts'
import type { Segment } from './segments.ts'
import type { RepairWalk } from './walk.ts'

interface MixtureToRepair {
  readonly view: ModelView
  readonly plan: Plan
  readonly windows: Windows
  readonly segment: Segment
  /** Bytes that the collected inputs of experts may take. */
  readonly inputBytes: number
}

/**
 * Fits the down projections of the remaining experts to the mixture's target, one expert after another. Each expert is fitted to what the
 * others leave missing, so every accepted fit reduces the error of the whole mixture. Experts with too few tokens keep their weights, and
 * so do those whose fit does not reduce the held-out error of the whole.
 */
export async function repairMixture(
  walk: RepairWalk,
  { view, plan, windows, segment, inputBytes }: MixtureToRepair,
): Promise<RepairedProjection & { tensors: Map<string, NamedTensor> }> {
  const block = blockOf(segment.part)
  const { spec, model } = view
  const { mlp } = at(plan.blocks, block)
  const kept = mlp === 'removed' ? [] : keptExperts(mlp, layoutOf(spec, block).experts ?? 0)
  const dtype = expertDtype(model.checkpoint, spec, block)
  const tensors = new Map<string, NamedTensor>()
  const fit = new MixtureFit(spec.hidden)
  const expertsAtOnce = Math.max(1, Math.floor((kept.length * inputBytes) / inputBytesOf(view, block, windows)))
  for (let first = 0; first < kept.length; first += expertsAtOnce) {
    const isInBatch = (index: number) => index >= first && index < first + expertsAtOnce
    await walk.lookAtMixture(
      segment,
      (lane, { experts = [], output }, wanted) => {
        for (const expert of experts) if (isInBatch(expert.expert)) fit.collect(lane, expert)
        if (output) fit.begin(lane, wanted(), output)
      },
      first > 0 ? isInBatch : undefined,
    )
    await walk.withPruned(segment.part, async (weights) => {
      for (const [index, routed] of fit.takeCollected()) {
        const weight = await withDown(weights, index, (down) => fit.solve(routed, down, (exact) => roundTo(exact, dtype)))
        if (!weight) continue
        tensors.set(expertDownName(block, at(kept, index).number), {
          values: weight.dataSync() as Float32Array,
          shape: weight.shape,
          dtype,
        })
        weight.dispose()
      }
    })
  }
  const all = kept.filter(({ constant }) => !constant).length
  return { block, projection: 'down', ...fit.figures(), experts: { replaced: tensors.size, fitted: fit.ridges.length, all }, tensors }
}

/** Returns the bytes that the inputs of all experts take on the windows. Counts both models, although a one-pass repair runs only one. */
function inputBytesOf({ spec }: ModelView, block: number, windows: Windows): number {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  return 2 * 4 * tokens * (spec.router?.chosen ?? 1) * Math.max(1, layoutOf(spec, block).width)
}

/** Calls `use` with the down projection of an expert, which is read first if it is not in memory. */
async function withDown<T>({ mixture }: PartWeights, index: number, use: (down: Tensor2D) => T): Promise<T> {
  const expert = mixture?.experts[index]
  if (!expert || isConstant(expert)) throw new RangeError(`Expert ${index} has no projections.`)
  if (!isUnread(expert)) return use(expert.down)
  const mlp = await expert.read()
  try {
    return use(mlp.down)
  } finally {
    disposePart({ mlp })
  }
}
