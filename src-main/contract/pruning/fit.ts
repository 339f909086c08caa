import { z } from 'zod'

/** The cost of one block's MLP and attention around the pruned and repaired model, in nats of divergence from the dense model per token. */
const fittedBlock = z.object({
  block: z.number().int().nonnegative(),
  /** Change of divergence at each of the table's widths, made monotone. */
  divergences: z.array(z.number()),
  /** Change if the attention is removed; null where the block has none. */
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
