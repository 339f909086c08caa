import { z } from 'zod'
import { type DataRequest, dataRequest } from '../data/data-request.ts'
import { usedData } from '../data/used-data.ts'
import { mixOf, needsMixedText } from './repair.ts'

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
  /** The highest learning rate. The default follows from the width of the model and the size of its weights. */
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

/** Adds a measurement to earlier ones. A training that was resumed, or began again, measures steps again. */
export const withPoint = (points: readonly RecoveryPoint[], point: RecoveryPoint): RecoveryPoint[] => [
  ...points.filter(({ step }) => step < point.step),
  point,
]

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

/** The kind of a text of the person's own that was split, of which some windows are held out too. */
export const ownTextKind = 'your text'

/** The name of a held-out kind by its place in a measurement. */
export const heldOutName = (kind: number): string => heldOutKinds[kind] ?? ownTextKind

/** Number of windows of each kind. */
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
