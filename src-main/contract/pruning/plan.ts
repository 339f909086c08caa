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

/** Projections whose weights a plan may replace: those that write to the stream. */
export const replaceable = z.enum(['output', 'down'])

/** `replaced` names the projections of the block whose weights stand among the plan's tensors. */
export const blockPlan = z.object({
  attention: z.enum(['kept', 'removed']),
  mlp: mlpPlan,
  replaced: z.array(replaceable).min(1).optional(),
})

/**
 * A narrower stream between submodules, turned by rotations among the plan's tensors: the coordinates that stay.
 * `epsilon` replaces that of the model's norms where the method chose another.
 */
export const slicePlan = z.object({ width: z.number().int().positive(), epsilon: z.number().positive().optional() })

/** A safetensors file that belongs to a plan or a step: where it is, its size, and its SHA-256 in hexadecimal. */
export const tensorFile = z.object({
  file: z.string(),
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
})

/** What a method decided: one entry per block of the dense model, first block first, and the files of what no JSON holds. */
export const plan = z.object({ blocks: z.array(blockPlan), slice: slicePlan.optional(), tensors: z.array(tensorFile).optional() })

export type MlpPlan = z.infer<typeof mlpPlan>
export type Replaceable = z.infer<typeof replaceable>
export type BlockPlan = z.infer<typeof blockPlan>
export type SlicePlan = z.infer<typeof slicePlan>
export type TensorFile = z.infer<typeof tensorFile>
export type Plan = z.infer<typeof plan>
