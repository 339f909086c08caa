import type { DataRequest } from '../data/data-request.ts'
import type { RecoveryAmount } from './recovery.ts'
import { isMixedAlready, mixOf } from './usual-repair.ts'

/** Tokens that a recovery trains on unless an amount is asked for. */
export const defaultRecoveryTokens = 262_144

/** Amounts that screens offer. */
export const recoveryTokens = [32_768, 98_304, defaultRecoveryTokens, 1_048_576] as const

/** Models that no recovery trains, in one sentence. */
export const untrainable = 'Mixtures of experts cannot be recovered: no gradients are computed for them.'

/** The longest windows that a recovery trains on, in tokens. */
const windowTokens = 512

/** Kinds of documents in the bundled mixed text that no recovery trains on. They decide which state of the weights is kept. */
export const heldOutKinds = ['definitions', 'lists', 'technical'] as const

/** Windows of each of those kinds. */
export const heldOutWindows = 8

/** If the divergence of one kind grows by more than this, the weights are rejected, whatever the others do. Nats: 5 % of its perplexity. */
export const mostGrowth = 0.05

/** What a recovery trains on unless another text is asked for: the calibration text and the mixed one, half each. */
export function usualRecoveryData({ source, sequenceLength, mix }: DataRequest): DataRequest {
  const length = Math.min(windowTokens, sequenceLength)
  const given = mix ?? [{ source, share: 1 }]
  if (isMixedAlready({ source, sequenceLength, mix })) return { source, sequenceLength: length, ...(mix ? { mix } : {}) }
  const sum = given.reduce((all, { share }) => all + share, 0)
  const parts = given.map((part) => ({ source: part.source, share: (0.5 * part.share) / sum }))
  return mixOf([...parts, { source: 'mixed', share: 0.5 }], { sequenceLength: length })
}

/** What people call a recovery of this length. */
export function recoveryTitle(amount: RecoveryAmount): string {
  return 'tokens' in amount
    ? `recovered with ${amount.tokens.toLocaleString('en')} tokens`
    : `recovered for ${Number(amount.minutes.toFixed(2))} min`
}
