import type { DataRequest } from '../data/data-request.ts'
import { mixOf, needsMixedText } from './default-repair.ts'
import type { RecoveryAmount } from './recovery.ts'

/** Number of tokens that a recovery trains on by default. */
export const defaultRecoveryTokens = 262_144

/** The numbers of tokens that screens offer. */
export const recoveryTokens = [32_768, 98_304, defaultRecoveryTokens, 1_048_576] as const

/** Why some models have no recovery, in one sentence for users. */
export const untrainable = 'Mixtures of experts cannot be recovered: no gradients are computed for them.'

/** The longest windows that a recovery trains on, in tokens. */
const windowTokens = 512

/** Kinds of documents in the bundled mixed text that no recovery trains on. The divergence on them decides which weights are kept. */
export const heldOutKinds = ['definitions', 'lists', 'technical'] as const

/** Number of windows of each of these kinds. */
export const heldOutWindows = 8

/** Weights are rejected if the divergence on one kind grows by more nats than this, which raises its perplexity by 5 %. */
export const mostGrowth = 0.05

/** Returns the length of a recovery's windows where those of the method have this length. */
export const recoveryLength = (sequenceLength: number): number => Math.min(windowTokens, sequenceLength)

/** Returns the default text of a recovery: the calibration text and the mixed text, half each. */
export function defaultRecoveryData({ source, sequenceLength, mix, split: own }: DataRequest): DataRequest {
  const length = recoveryLength(sequenceLength)
  const split = own ? { split: own } : {}
  const given = mix ?? [{ source, share: 1, ...split }]
  if (!needsMixedText({ source, sequenceLength, mix })) return { source, sequenceLength: length, ...(mix ? { mix } : split) }
  const sum = given.reduce((all, { share }) => all + share, 0)
  const parts = given.map((part) => ({ ...part, share: (0.5 * part.share) / sum }))
  return mixOf([...parts, { source: 'mixed', share: 0.5 }], { sequenceLength: length })
}

/** Returns the title of a recovery of this length. */
export function recoveryTitle(amount: RecoveryAmount): string {
  return 'tokens' in amount
    ? `recovered with ${amount.tokens.toLocaleString('en')} tokens`
    : `recovered for ${Number(amount.minutes.toFixed(2))} min`
}
