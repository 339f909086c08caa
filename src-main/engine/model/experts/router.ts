import type { RouterKind } from '#engine/architectures/spec.ts'

/** The experts of each token [N, k], highest score first, and the factors on their outputs. */
export interface Choice {
  readonly numbers: Int32Array
  readonly gates: Float64Array
}

/**
 * Chooses experts by the logits [N, E] of a router. Ties go to the lower number. Sums are in float64. `correction` is added to the scores
 * for the choice only.
 */
export function chooseExperts(logits: Float32Array, experts: number, kind: RouterKind, correction?: ArrayLike<number>): Choice {
  const tokens = logits.length / experts
  const { chosen } = kind
  const choice = { numbers: new Int32Array(tokens * chosen), gates: new Float64Array(tokens * chosen) }
  for (let row = 0; row < tokens; row++) {
    const scores = scoresOf(logits.subarray(row * experts, (row + 1) * experts), kind)
    const wanted = correction ? scores.map((score, expert) => score + (correction[expert] as number)) : scores
    const best = largest(kind.groups ? insideGroups(wanted, kind.groups) : wanted, chosen)
    const total = kind.renormalised ? best.reduce((sum, expert) => sum + (scores[expert] as number), 0) : 1
    best.forEach((expert, slot) => {
      choice.numbers[row * chosen + slot] = expert
      choice.gates[row * chosen + slot] =
        ((scores[expert] as number) / (total + (kind.scores === 'sigmoid' ? 1e-20 : 0))) * (kind.scale ?? 1)
    })
  }
  return choice
}

/** Returns the scores of experts that a router's logits [E] become. */
export function scoresOf(logits: Float32Array, { scores }: RouterKind): Float64Array {
  if (scores === 'sigmoid') return Float64Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)))
  const highest = logits.reduce((max, logit) => Math.max(max, logit), Number.NEGATIVE_INFINITY)
  const shares = Float64Array.from(logits, (logit) => Math.exp(logit - highest))
  const sum = shares.reduce((total, share) => total + share, 0)
  return shares.map((share) => share / sum)
}

/** Excludes scores outside the best groups. Groups are compared by the sum of their two largest scores. */
function insideGroups(scores: Float64Array, { count, open }: NonNullable<RouterKind['groups']>): Float64Array {
  const size = scores.length / count
  const ofGroup = (group: number) => scores.subarray(group * size, (group + 1) * size)
  const sums = Float64Array.from({ length: count }, (_, group) => {
    const scoresInGroup = ofGroup(group)
    return largest(scoresInGroup, 2).reduce((sum, expert) => sum + (scoresInGroup[expert] as number), 0)
  })
  const best = new Set(largest(sums, open))
  return scores.map((score, expert) => (best.has(Math.floor(expert / size)) ? score : Number.NEGATIVE_INFINITY))
}

/** The indices of the `count` largest values, largest first. Of equal values, the lower index comes first. */
function largest(values: Float64Array, count: number): number[] {
  const best: number[] = []
  for (let index = 0; index < values.length; index++) {
    let rank = best.length
    while (rank > 0 && (values[index] as number) > (values[best[rank - 1] as number] as number)) rank--
    if (rank < count) best.splice(rank, 0, index)
    if (best.length > count) best.pop()
  }
  return best
}
