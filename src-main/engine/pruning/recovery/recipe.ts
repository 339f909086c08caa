import type { RecoveryRequest, TrainedWeights } from '#contract/pruning/recovery.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'

/** The settings of a training, besides its text. */
export interface Recipe {
  readonly tokens: number
  readonly windowsPerStep: number
  readonly rate: number
  readonly trains: TrainedWeights
}

/** Tokens per step. */
export const tokensPerStep = 2048

/** A rate of 4e-4 was the best at width 576. Wider models get a lower rate, as in published work. */
const measured = { rate: 4e-4, hidden: 576 }

/** The rate for the factors of a low-rank change. 2e-3 was the best at width 576. */
const factorRate = 2e-3

/** Returns the settings of a training: those of the request, and defaults for the rest. */
export function recipeFor({ hidden }: DecoderSpec, { rate, text }: RecoveryRequest, tokens: number, trains: TrainedWeights): Recipe {
  const defaultRate = trains === 'all' ? usualRate(hidden) : factorRate
  return { tokens, windowsPerStep: Math.max(1, Math.round(tokensPerStep / text.sequenceLength)), rate: rate ?? defaultRate, trains }
}

/** Returns the default rate for all weights of a model with this hidden width. */
export function usualRate(hidden: number): number {
  return Math.min(1e-3, Math.max(1e-4, (measured.rate * measured.hidden) / hidden))
}
