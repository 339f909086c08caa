import { at } from '#contract/at.ts'
import { logProbabilities, topIndices } from './probabilities.ts'

interface SamplingSettings {
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly repetitionPenalty: number
}

/**
 * Lowers the logits of tokens that already occurred: divides positive logits by the penalty and multiplies negative ones (arXiv 1909.05858,
 * section 4.1).
 */
function penalizeRepeats(logits: Float32Array, ids: readonly number[], penalty: number): Float32Array {
  if (penalty === 1) return logits
  const result = logits.slice()
  for (const id of new Set(ids)) {
    const logit = at(result, id)
    result[id] = logit > 0 ? logit / penalty : logit * penalty
  }
  return result
}

/** The token ids that remain after top-k, top-p and min-p, likeliest first, with probabilities that sum to 1. */
export function candidates(
  logits: Float32Array,
  ids: readonly number[],
  settings: SamplingSettings,
): { id: number; probability: number }[] {
  const penalized = penalizeRepeats(logits, ids, settings.repetitionPenalty)
  const scaled = logProbabilities(penalized.map((logit) => logit / settings.temperature))
  const order = topIndices(scaled, settings.topK > 0 ? settings.topK : Math.min(scaled.length, 1000))
  const total = order.reduce((sum, id) => sum + Math.exp(at(scaled, id)), 0)
  const best = Math.exp(at(scaled, at(order, 0))) / total
  let before = 0
  const left = order.flatMap((id) => {
    const probability = Math.exp(at(scaled, id)) / total
    const stays = before < settings.topP && probability >= settings.minP * best
    before += probability
    return stays ? [{ id, probability }] : []
  })
  const sum = left.reduce((share, { probability }) => share + probability, 0)
  return left.map(({ id, probability }) => ({ id, probability: probability / sum }))
}

/** Draws the next token; with temperature 0, returns the likeliest. `uniform` returns random numbers in [0, 1). */
export function chooseToken(logits: Float32Array, ids: readonly number[], settings: SamplingSettings, uniform: () => number): number {
  if (settings.temperature === 0) return at(topIndices(penalizeRepeats(logits, ids, settings.repetitionPenalty), 1), 0)
  let left = uniform()
  const choices = candidates(logits, ids, settings)
  for (const { id, probability } of choices) {
    left -= probability
    if (left < 0) return id
  }
  return at(choices, choices.length - 1).id
}
