import { z } from 'zod'
import { plan } from '#contract/pruning/plan.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { modelTexts } from '#engine/checkpoint/model-files.ts'

/** The name of the file that describes a saved pruned model, beside its weights. */
export const prunedLayoutFile = modelTexts.prunedLayout

const count = z.number().int().nonnegative()

/** The content of that file: the model's remaining submodules, and the plan that produced it. */
export const prunedLayout = z.object({
  format: z.literal(1),
  parent: z.string(),
  method: z.string(),
  /**
   * The family's values of these config entries, if config.json has those of the module beside the weights. Older folders have the family's
   * values in config.json.
   */
  family: z.object({ model_type: z.string(), architectures: z.array(z.string()).optional() }).optional(),
  blocks: z
    .array(z.object({ attention: z.boolean(), width: count, experts: count.optional(), constants: z.array(count).readonly().optional() }))
    .min(1)
    .max(1000),
  plan,
})

/** Entries of config.json that only the Python module beside the weights understands. */
const moduleKeys = ['auto_map', 'blocks_left', 'stream_width', 'stream_epsilon'] as const

/** Returns the checkpoint with the config entries of its family instead of those of the module beside the weights. */
export function inFamilyWords(checkpoint: Checkpoint, layout: PrunedLayout | undefined): Checkpoint {
  if (!layout?.family) return checkpoint
  const { architectures: _, ...config } = checkpoint.config
  for (const key of moduleKeys) delete config[key]
  return {
    path: checkpoint.path,
    config: { ...config, ...layout.family },
    decimals: checkpoint.decimals,
    quantised: checkpoint.quantised,
    ...(checkpoint.shardBytes === undefined ? {} : { shardBytes: checkpoint.shardBytes }),
    tensors: checkpoint.tensors,
    read: (name, rows) => checkpoint.read(name, rows),
    readFloat32: (name, rows) => checkpoint.readFloat32(name, rows),
    close: () => checkpoint.close(),
  }
}

export type PrunedLayout = z.infer<typeof prunedLayout>
