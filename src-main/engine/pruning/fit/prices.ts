import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TriedPrice } from '#contract/pruning/fit.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodInput } from '../method.ts'
import { densePlan, removeParts } from '../plan.ts'
import { keptAt, type WidthPoints, weightsOfShapes } from './fitted-weights.ts'
import type { FittedShape } from './programme.ts'

/** Factors for attention's divergences. The one with the lowest loss is used. */
export const priceFactors = [1, 1 / 2, 1 / 4]

export const priceChoosing = 'Choosing the price of attention'

const priceStep: StepKind = { version: 2 }

/** A shape and, if the budget is a cost, its cost as counted. */
export interface Chosen {
  readonly shape: FittedShape
  readonly predicted?: number
}

/** Tries each price. The resulting shapes are repaired in one pass and judged on windows used for nothing else. */
export async function choosePrice(
  { view, run }: Pick<MethodInput<unknown>, 'view' | 'run'>,
  choose: (factor: number) => Promise<Chosen | undefined>,
  points: WidthPoints,
  { fitted, judging }: { readonly fitted: Windows; readonly judging: Windows },
): Promise<Chosen & { prices: TriedPrice[] }> {
  const tried: (Chosen & { readonly factor: number })[] = []
  for (const factor of priceFactors) {
    const chosen = await choose(factor)
    if (!chosen) throw new EspalierError('infeasible', 'No widths meet this amount. Remove less, or choose a smaller least width.')
    tried.push({ factor, ...chosen })
  }
  const shapes = [...new Map(tried.map(({ shape }) => [nameOf(shape), shape])).values()]
  const on = { shapes: shapes.map((shape) => ({ ...shape })), fitted, judging, points: { ...points } }
  run.progress(priceChoosing, 0, shapes.length, 'shapes')
  const losses = await run.step({ kind: priceStep, label: 'prices of attention', on }, lossesOf)
  const judged = tried.map((one) => ({ ...one, loss: at(losses, shapes.map(nameOf).indexOf(nameOf(one.shape))) }))
  const best = judged.reduce((least, one) => (one.loss < least.loss ? one : least))
  const prices = judged.map(({ factor, shape, loss }) => {
    return { factor, attentionRemoved: shape.removed.length, loss, chosen: factor === best.factor }
  })
  return { ...best, prices }

  async function lossesOf(): Promise<number[]> {
    const weights = await weightsOfShapes(view, fitted, points, shapes, run)
    const losses: number[] = []
    for (const [index, tensors] of weights.entries()) {
      run.progress(priceChoosing, index, shapes.length, 'shapes')
      const plan = withWaysDown(planOf(view.spec, points, at(shapes, index)), tensors)
      const own = viewWithPlan(view.model, plan, tensors)
      const found = await perplexity(own, judging, { signal: run.signal }).finally(() => own.dispose())
      losses.push(Math.log(found.perplexity))
    }
    return losses
  }
}

/** Replaces the down projections for which there are tensors. */
const withWaysDown = ({ blocks }: Plan, { tensors }: StoredTensors): Plan => ({
  blocks: blocks.map((block, index) => (tensors.has(replacedName(index, 'down', 'weight')) ? { ...block, replaced: ['down'] } : block)),
})

const nameOf = ({ widths, removed }: FittedShape): string => `widths ${widths.join(' ')}, without ${removed.join(' ')}`

/** The plan for a shape. */
export function planOf(spec: DecoderSpec, points: WidthPoints, { widths, removed }: FittedShape): Plan {
  const blocks = densePlan(spec).blocks.map(
    (block, index): BlockPlan => ({ ...block, mlp: { kept: keptAt(points, index, at(widths, index)) } }),
  )
  return removeParts({ blocks }, removed.map(attentionOf))
}
