import { z } from 'zod'

/** How one block's MLP and attention affect the divergence from the dense model, in nats per token, in a pruned and repaired model. */
const fittedBlock = z.object({
  block: z.number().int().nonnegative(),
  /** Change of the divergence at each of `widths`, made monotone. */
  divergences: z.array(z.number()),
  /** Change of the divergence if the attention is removed; null if the block has none. */
  attention: z.number().nullable(),
  /** Neurons kept by the plan, and whether it removes the attention. */
  width: z.number().int(),
  attentionRemoved: z.boolean(),
})

/** All numbers that determined a run's fitted widths. */
export const fit = z.object({
  base: z.number().int(),
  widths: z.array(z.number().int()),
  blocks: z.array(fittedBlock),
})

export type FittedBlock = z.infer<typeof fittedBlock>
export type Fit = z.infer<typeof fit>
