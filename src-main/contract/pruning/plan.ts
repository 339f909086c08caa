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
 * the rows-versus-columns ablation.
 *
 * The other fields are for mixtures. `experts` lists the remaining experts (absent: all), `keptByExpert` the remaining neurons of each, the
 * same number for all. `constants` lists experts that a vector in the plan's tensors replaces. The down projections of the remaining
 * experts are multiplied by `expertScale`.
 */
const mlpPlan = z.union([
  z.literal('removed'),
  z.object({ kept: z.union([z.literal('all'), indices]), inputs: indices.optional(), outputs: indices.optional(), ...ofExperts }),
])

/** The projections that write to the stream. A repair replaces their weights. */
export const replaceable = z.enum(['output', 'down'])

/** The submodules that a recovery trains. It replaces all of their tensors, including norms. */
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
 * A narrower stream between submodules. `width` is the number of coordinates that remain after the rotations in the plan's tensors.
 * `epsilon` replaces the epsilon of the model's norms if the method chose another.
 */
const slicePlan = z.object({ width: z.number().int().positive(), epsilon: z.number().positive().optional() })

/**
 * The rows of embedding and head that remain, by their ids in the dense model, ascending. The pruned model numbers its tokens in this order.
 */
const vocabularyPlan = z.object({ kept: indices.min(1) })

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
  /** Set if the plan's tensors also replace the norm in front of the head. */
  finalNorm: z.literal('replaced').optional(),
  vocabulary: vocabularyPlan.optional(),
  tensors: z.array(tensorFile).optional(),
  /** The type of each matrix in a GGUF file of mixed types, by llama.cpp's name of the tensor. */
  types: z.record(z.string().max(200), z.string().max(20)).optional(),
})

export type MlpPlan = z.infer<typeof mlpPlan>
export type Replaceable = z.infer<typeof replaceable>
export type Trainable = z.infer<typeof trainable>
export type BlockPlan = z.infer<typeof blockPlan>
export type SlicePlan = z.infer<typeof slicePlan>
export type VocabularyPlan = z.infer<typeof vocabularyPlan>
export type TensorFile = z.infer<typeof tensorFile>
export type Plan = z.infer<typeof plan>
