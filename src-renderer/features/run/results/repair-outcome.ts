import type { RepairedProjection } from '#contract/pruning/repair.ts'

/** Says how a repair ended: `Projections: 3 replaced.`, and why others were kept. Each expert of a mixture has its own projection. */
export function repairOutcome(blocks: readonly RepairedProjection[]): string {
  let [replaced, kept, few] = [0, 0, 0]
  for (const { before, after, experts } of blocks) {
    const projections = experts ?? { replaced: after < before ? 1 : 0, fitted: 1, all: 1 }
    replaced += projections.replaced
    kept += projections.fitted - projections.replaced
    few += projections.all - projections.fitted
  }
  const parts = [
    `${replaced} replaced`,
    ...(kept > 0 ? [`${kept} kept, as the error on held-out windows did not fall`] : []),
    ...(few > 0 ? [`${few} kept, as too few tokens chose the expert`] : []),
  ]
  return `Projections: ${parts.join('; ')}.`
}
