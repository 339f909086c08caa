import { at } from '#contract/at.ts'

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
  const top = penalized.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY)
  // Relative to the largest and in float64, because a logit over a temperature of 1e-38 is infinite in float32.
  const scaled = logProbabilities(Float64Array.from(penalized, (logit) => (logit - top) / settings.temperature))
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

/** Natural logarithms of the probabilities of logits [V], in float64. */
export function logProbabilities(logits: ArrayLike<number>): Float64Array {
  const { length } = logits
  let top = Number.NEGATIVE_INFINITY
  for (let i = 0; i < length; i++) top = Math.max(top, logits[i] as number)
  let sum = 0
  for (let i = 0; i < length; i++) sum += Math.exp((logits[i] as number) - top)
  const shift = top + Math.log(sum)
  // A plain loop, because with a function call per element this took longer than generating the token.
  const result = new Float64Array(length)
  for (let i = 0; i < length; i++) result[i] = (logits[i] as number) - shift
  return result
}

/** Indices of the `count` largest values, largest first; ties go to the lower index. Keeps the best indices so far in `best`. */
export function topIndices(values: ArrayLike<number>, count: number): number[] {
  const best: number[] = []
  /** The smallest of the best values. NaN until there are `count` of them, so that no value counts as smaller. */
  let least = Number.NaN
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number
    if (value <= least) continue
    let place = best.length
    while (place > 0 && (values[best[place - 1] as number] as number) < value) place--
    best.splice(place, 0, index)
    if (best.length > count) best.pop()
    if (best.length === count) least = values[best[count - 1] as number] as number
  }
  return best
}

/** Tokens that would complete an n-gram that `ids` already contains. */
export function repeatedNgramEnds(ids: readonly number[], size: number): Set<number> {
  const ends = new Set<number>()
  if (size <= 0 || ids.length + 1 < size) return ends
  const prefix = ids.slice(ids.length - size + 1)
  for (let start = 0; start + size <= ids.length; start++) {
    if (prefix.every((id, i) => ids[start + i] === id)) ends.add(ids[start + size - 1] as number)
  }
  return ends
}
