import { at } from '#contract/at.ts'
import type { Plot } from '#contract/comparison/plot.ts'
import { heldOutName, mostGrowth } from '#contract/pruning/recovery.ts'
import type { RepairedProjection } from '#contract/pruning/repair.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { formatPlural } from '../../../lib/format.ts'

const sentenceList = new Intl.ListFormat('en-GB')

/** The divergence from the dense model while a recovery trains: on each held-out kind of text, and on the text that it trains on. */
export function recoveryPlot({ recovery, recoveryPoints }: Pick<RunDetail, 'recovery' | 'recoveryPoints'>): Plot {
  const points = recovery?.points ?? recoveryPoints
  const kinds = recovery?.heldOut.map(({ kind }) => kind) ?? (points[0]?.heldOut ?? []).map((_, kind) => heldOutName(kind))
  return {
    title: 'Divergence from the dense model',
    x: { label: 'Tokens trained', scale: 'linear' },
    y: { label: 'Nats per token', scale: 'linear' },
    series: [
      ...kinds.map((kind, index) => ({
        name: `held out: ${kind}`,
        points: points.flatMap(({ tokens, heldOut }) => (heldOut[index] === undefined ? [] : [{ x: tokens, y: heldOut[index] }])),
      })),
      { name: 'training text', points: points.flatMap(({ tokens, loss }) => (loss === null ? [] : [{ x: tokens, y: loss }])) },
    ],
  }
}

type Recovery = NonNullable<RunDetail['recovery']>

/** The outcome of a recovery, in sentences. */
export function recoveryOutcome({ best, points, heldOut, steps, plannedSteps }: Recovery): string {
  const spoilt = spoiltKinds({ best, points, heldOut })
  const why = `Others were better on average, but more than ${mostGrowth} nats worse than at the start on ${sentenceList.format(spoilt)}.`
  const chosen = points[best]
  if (best === 0 || !chosen)
    return spoilt.length > 0 ? `The weights are unchanged. ${why}` : 'The held-out text got no better, so the weights are unchanged.'
  const stopped = steps < plannedSteps ? ` Training stopped after ${steps} of ${formatPlural(plannedSteps, 'step')}.` : ''
  const taken = `The weights are those after ${formatPlural(chosen.tokens, 'token')}`
  return `${taken}${spoilt.length > 0 ? `. ${why}` : ', which were best on the held-out text.'}${stopped}`
}

/** The kinds of text for which weights with a lower mean divergence were rejected. */
function spoiltKinds({ best, points, heldOut }: Pick<Recovery, 'best' | 'points' | 'heldOut'>): string[] {
  const start = points[0]?.heldOut ?? []
  const sum = (values: readonly number[] = []) => values.reduce((total, value) => total + value, 0)
  const lower = points.filter((point) => sum(point.heldOut) < sum(points[best]?.heldOut))
  const isSpoilt = (_: unknown, kind: number) => lower.some((point) => at(point.heldOut, kind) > at(start, kind) + mostGrowth)
  return heldOut.filter(isSpoilt).map(({ kind }) => kind)
}

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
