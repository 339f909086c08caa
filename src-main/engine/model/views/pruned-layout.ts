import { z } from 'zod'
import { plan } from '#contract/pruning/plan.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { modelTexts } from '#engine/checkpoint/model-files.ts'

/** The file beside the weights of a model that stores only what remains. */
export const prunedLayoutFile = modelTexts.prunedLayout

const count = z.number().int().nonnegative()

/** What a saved pruned model says about itself: which submodules its tensors describe, and the plan that produced it. */
export const prunedLayout = z.object({
  format: z.literal(1),
  parent: z.string(),
  method: z.string(),
  /** What config.json would say in the family's words, if it has its own. Older folders keep the family's words there. */
  family: z.object({ model_type: z.string(), architectures: z.array(z.string()).optional() }).optional(),
  blocks: z
    .array(z.object({ attention: z.boolean(), width: count, experts: count.optional(), constants: z.array(count).readonly().optional() }))
    .min(1)
    .max(1000),
  plan,
})

/** Entries of config.json that only the module beside the weights understands. */
const moduleWords = ['auto_map', 'blocks_left', 'stream_width', 'stream_epsilon'] as const

/** The checkpoint with its config in the words of its family. */
export function inFamilyWords(checkpoint: Checkpoint, layout: PrunedLayout | undefined): Checkpoint {
  if (!layout?.family) return checkpoint
  const { architectures: _, ...config } = checkpoint.config
  for (const word of moduleWords) delete config[word]
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
