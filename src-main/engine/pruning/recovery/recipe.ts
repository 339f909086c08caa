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

/** 4e-4 was measured at width 576. Wider models get less, as in published work. */
const measured = { rate: 4e-4, hidden: 576 }

/** For the factors of a low-rank change. 2e-3 was measured at the same width. */
const factorRate = 2e-3

export function recipeFor({ hidden }: DecoderSpec, { rate, text }: RecoveryRequest, tokens: number, trains: TrainedWeights): Recipe {
  const usual = trains === 'all' ? usualRate(hidden) : factorRate
  return { tokens, windowsPerStep: Math.max(1, Math.round(tokensPerStep / text.sequenceLength)), rate: rate ?? usual, trains }
}

export function usualRate(hidden: number): number {
  return Math.min(1e-3, Math.max(1e-4, (measured.rate * measured.hidden) / hidden))
}
