import type { Plot } from '#contract/comparison/plot.ts'
import { heldOutKinds } from '#contract/pruning/usual-recovery.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { formatPlural } from '../../../lib/format.ts'

/** The divergence from the dense model while a recovery trains: on each held-out kind of text, and on the text that it trains on. */
export function recoveryPlot({ recovery, recoveryPoints }: Pick<RunDetail, 'recovery' | 'recoveryPoints'>): Plot {
  const points = recovery?.points ?? recoveryPoints
  const kinds: readonly string[] = recovery?.heldOut.map(({ kind }) => kind) ?? heldOutKinds
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

/** The outcome of a recovery, in a sentence. */
export function recoveryOutcome({ best, points, steps, plannedSteps }: NonNullable<RunDetail['recovery']>): string {
  const chosen = points[best]
  if (best === 0 || !chosen) return 'The held-out text got no better, so the weights are unchanged.'
  const stopped = steps < plannedSteps ? ` Training stopped after ${steps} of ${formatPlural(plannedSteps, 'step')}.` : ''
  return `The weights are those after ${formatPlural(chosen.tokens, 'token')}, which were best on the held-out text.${stopped}`
}
