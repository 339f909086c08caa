import type { RecoveryRequest, TrainedWeights } from '#contract/pruning/recovery.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'

/** What a training is made of, besides its text. */
export interface Recipe {
  readonly tokens: number
  readonly windowsPerStep: number
  readonly rate: number
  readonly trains: TrainedWeights
}

/** Tokens of a step. */
export const tokensPerStep = 2048

/** 4e-4 was measured for a width of 576; wider models take less, as published work has it. */
const measured = { rate: 4e-4, hidden: 576 }

/** Of the factors of a low-rank change; 2e-3 was measured for the same width. */
const factorRate = 2e-3

export function recipeFor({ hidden }: DecoderSpec, { rate, text }: RecoveryRequest, tokens: number, trains: TrainedWeights): Recipe {
  const usual = trains === 'all' ? usualRate(hidden) : factorRate
  return { tokens, windowsPerStep: Math.max(1, Math.round(tokensPerStep / text.sequenceLength)), rate: rate ?? usual, trains }
}

export function usualRate(hidden: number): number {
  return Math.min(1e-3, Math.max(1e-4, (measured.rate * measured.hidden) / hidden))
}
