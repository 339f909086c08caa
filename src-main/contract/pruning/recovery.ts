import { z } from 'zod'
import { dataRequest } from '../data/data-request.ts'
import { usedData } from '../data/used-data.ts'

/** The longest recovery, in minutes: about 69 days. */
export const mostRecoveryMinutes = 100_000

/** How long a recovery trains: a number of tokens, or as many as fit if all of it takes a number of minutes by the clock. */
export const recoveryAmount = z.union([
  z.object({ tokens: z.number().int().positive() }),
  z.object({ minutes: z.number().positive().max(mostRecoveryMinutes) }),
])

/** What a recovery trains: all remaining weights, or a change of rank 16 to each projection, which takes less memory. */
export const trainedWeights = z.enum(['all', 'low-rank'])

/** A short training of the pruned model, so that it predicts what the dense model predicts. */
export const recoveryRequest = z.object({
  amount: recoveryAmount,
  text: dataRequest,
  /** The highest learning rate. The default depends on the width of the model. */
  rate: z.number().positive().max(1).optional(),
  /** Default: all weights if they fit into memory. */
  trains: trainedWeights.optional(),
})

/** A measurement during training: mean loss since the previous one, and divergence on each held-out kind of text, in nats per token. */
export const recoveryPoint = z.object({
  step: z.number().int().nonnegative(),
  tokens: z.number().int().nonnegative(),
  loss: z.number().nullable(),
  heldOut: z.array(z.number()),
})

/** What a recovery did. */
export const recovery = z.object({
  /** Steps and tokens that were trained, and the number of planned steps. */
  steps: z.number().int().nonnegative(),
  plannedSteps: z.number().int().positive(),
  tokens: z.number().int().nonnegative(),
  seconds: z.number(),
  /** Number of trained parameters, what was trained (absent: all weights), and the highest learning rate. */
  parameters: z.number().int(),
  trains: trainedWeights.optional(),
  rate: z.number(),
  products: z.enum(['float32', 'bfloat16']),
  text: usedData,
  /** Kinds of text that it was not trained on. The divergence on this many windows of each decides which weights are kept. */
  heldOut: z.array(z.object({ kind: z.string(), windows: z.number().int().positive() })),
  points: z.array(recoveryPoint),
  /** Index of the point whose weights were kept. 0 is the point before training, so the weights are unchanged. */
  best: z.number().int().nonnegative(),
})

export type TrainedWeights = z.infer<typeof trainedWeights>
export type RecoveryAmount = z.infer<typeof recoveryAmount>
export type RecoveryRequest = z.infer<typeof recoveryRequest>
export type RecoveryPoint = z.infer<typeof recoveryPoint>
export type Recovery = z.infer<typeof recovery>
