import { z } from 'zod'

/**
 * One step of trained gates: the mean divergence from the dense model on the step's windows, in nats per token, with what was closed then.
 * `kept` are neurons of each block, or experts of a mixture.
 */
export const gateStep = z.object({
  step: z.number().int().positive(),
  divergence: z.number(),
  kept: z.array(z.number().int().nonnegative()),
  attentionRemoved: z.array(z.number().int().nonnegative()),
  /** Gates that closed and reopened since the step before. The first step closes its gates. */
  closed: z.number().int().nonnegative(),
  reopened: z.number().int().nonnegative(),
})

/** How gates were trained. */
export const gateTraining = z.object({
  steps: z.array(gateStep),
  /** Windows that priced gates, and windows of each step. */
  priceWindows: z.number().int().nonnegative(),
  windowsPerStep: z.number().int().positive(),
})

/**
 * Scores of each block's neurons, and the lowest score that each block keeps. Where attention is scored by the same measure, its score in
 * each block; null for blocks without attention.
 */
export const neuronScores = z.object({
  scores: z.array(z.array(z.number())),
  cuts: z.array(z.number()),
  attention: z.array(z.number().nullable()).optional(),
})

export type NeuronScores = z.infer<typeof neuronScores>
export type GateStep = z.infer<typeof gateStep>
export type GateTraining = z.infer<typeof gateTraining>
