import { z } from 'zod'

const indices = z.array(z.number().int().nonnegative())

const ofExperts = {
  experts: indices.optional(),
  keptByExpert: z.array(indices).optional(),
  constants: indices.optional(),
  expertScale: z.number().positive().optional(),
}

/**
 * The plan of one MLP. `kept` lists the remaining neurons in index order. `inputs` and `outputs` (remaining hidden channels) occur only in
 * the rows-versus-columns ablation. Of a mixture, `experts` are the numbers of those that stay, all without it; `keptByExpert` their
 * neurons, as many of each; `constants` the numbers of those that became a vector of the plan's tensors; and `expertScale` what the down
 * projections of those that stay are multiplied by.
 */
const mlpPlan = z.union([
  z.literal('removed'),
  z.object({ kept: z.union([z.literal('all'), indices]), inputs: indices.optional(), outputs: indices.optional(), ...ofExperts }),
])

/** Projections whose weights a repair replaces: those that write to the stream. */
export const replaceable = z.enum(['output', 'down'])

/** Submodules whose tensors are all replaced, norms included: recovery trains them. */
const trainable = z.enum(['attention', 'mlp'])

/** `replaced` names the block's projections, or whole submodules, whose weights are in the plan's tensors. */
const blockPlan = z.object({
  attention: z.enum(['kept', 'removed']),
  mlp: mlpPlan,
  replaced: z
    .array(z.enum([...replaceable.options, ...trainable.options]))
    .min(1)
    .optional(),
})

/**
 * A narrower stream between submodules: the number of coordinates that remain after the rotations in the plan's tensors. `epsilon` replaces
 * that of the model's norms if the method chose another.
 */
const slicePlan = z.object({ width: z.number().int().positive(), epsilon: z.number().positive().optional() })

/** A safetensors file of a plan or step: its path, size, and SHA-256 in hexadecimal. */
export const tensorFile = z.object({
  file: z.string(),
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
})

/** A method's decision: one entry per block of the dense model in order, and the files for large tensors. */
export const plan = z.object({
  blocks: z.array(blockPlan),
  slice: slicePlan.optional(),
  /** Where the norm in front of the head is among the plan's tensors too. */
  finalNorm: z.literal('replaced').optional(),
  tensors: z.array(tensorFile).optional(),
})

export type MlpPlan = z.infer<typeof mlpPlan>
export type Replaceable = z.infer<typeof replaceable>
export type Trainable = z.infer<typeof trainable>
export type BlockPlan = z.infer<typeof blockPlan>
export type SlicePlan = z.infer<typeof slicePlan>
export type TensorFile = z.infer<typeof tensorFile>
export type Plan = z.infer<typeof plan>
