import { z } from 'zod'
import { plan } from '#contract/plan.ts'

/** The file beside the weights of a model that Espalier saved in its own format. */
export const prunedLayoutFile = 'espalier.json'

/** What a saved pruned model says of itself: which submodules its tensors describe, and the plan that led there. */
export const prunedLayout = z.object({
  format: z.literal(1),
  parent: z.string(),
  method: z.string(),
  blocks: z
    .array(z.object({ attention: z.boolean(), width: z.number().int().nonnegative() }))
    .min(1)
    .max(1000),
  plan,
})

export type PrunedLayout = z.infer<typeof prunedLayout>
