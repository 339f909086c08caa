import { at } from '#contract/at.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import { densePlan, removeParts } from '../plan.ts'
import type { FittedShape } from './programme.ts'

/** The widths of the table, and which neurons each of them keeps. */
export interface WidthPoints {
  /** Neurons of each block by descending score. A width keeps the first ones. */
  readonly orders: readonly (readonly number[])[]
  /** The width that all MLPs have while the table is measured. */
  readonly base: number
  readonly widths: readonly number[]
}

/** Returns the neurons that a block keeps at a width, in index order. */
export const keptAt = ({ orders }: WidthPoints, block: number, width: number): number[] =>
  at(orders, block)
    .slice(0, width)
    .sort((a, b) => a - b)

/** Returns the plan for a shape. */
export function planOf(spec: DecoderSpec, points: WidthPoints, { widths, removed }: FittedShape): Plan {
  const blocks = densePlan(spec).blocks.map(
    (block, index): BlockPlan => ({ ...block, mlp: { kept: keptAt(points, index, at(widths, index)) } }),
  )
  return removeParts({ blocks }, removed.map(attentionOf))
}
