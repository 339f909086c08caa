import { z } from 'zod'

const indices = z.array(z.number().int().nonnegative())

/**
 * What a plan says of one MLP. `kept` lists the neurons that stay, in index order.
 * `inputs` and `outputs` (hidden channels that stay) occur in the rows-versus-columns ablation only.
 */
export const mlpPlan = z.union([
  z.literal('removed'),
  z.object({ kept: z.union([z.literal('all'), indices]), inputs: indices.optional(), outputs: indices.optional() }),
])

export const blockPlan = z.object({ attention: z.enum(['kept', 'removed']), mlp: mlpPlan })

/**
 * SliceGPT's part of a plan: the width kept and the file of its rotations, beside the JSON.
 * `epsilon` replaces that of the model's norms where the method chose another.
 */
export const slicePlan = z.object({ width: z.number().int().positive(), tensors: z.string(), epsilon: z.number().positive().optional() })

/** What a method decided: one entry per block of the dense model, first block first. */
export const plan = z.object({ blocks: z.array(blockPlan), slice: slicePlan.optional() })

export type MlpPlan = z.infer<typeof mlpPlan>
export type BlockPlan = z.infer<typeof blockPlan>
export type SlicePlan = z.infer<typeof slicePlan>
export type Plan = z.infer<typeof plan>
