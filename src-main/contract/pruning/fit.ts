import { z } from 'zod'

/** What one block's MLP and attention cost, around the pruned and repaired model, in nats of divergence from the dense one per token. */
export const fittedBlock = z.object({
  block: z.number().int().nonnegative(),
  /** The change of divergence with each of the table's widths, made monotone. */
  divergences: z.array(z.number()),
  /** The change where the attention goes, before the price. */
  attention: z.number(),
  /** Neurons that it keeps in the plan, and whether its attention goes. */
  width: z.number().int(),
  attentionRemoved: z.boolean(),
})

/** A price of attention that was tried: its factor, what it removes, and the loss on held-out windows after a one-pass repair. */
export const triedPrice = z.object({ factor: z.number(), attentionRemoved: z.number().int(), loss: z.number(), chosen: z.boolean() })

/** Every number that the fitted widths of a run were decided by. */
export const fit = z.object({
  base: z.number().int(),
  widths: z.array(z.number().int()),
  blocks: z.array(fittedBlock),
  prices: z.array(triedPrice),
})

export type FittedBlock = z.infer<typeof fittedBlock>
export type TriedPrice = z.infer<typeof triedPrice>
export type Fit = z.infer<typeof fit>
