import { bitsMeasure } from '#contract/comparison/comparable.ts'
import { isTimed, loadMeasure } from '#contract/runs/time/speed.ts'
import { formatTick } from './format.ts'

/** The order of measures on the screens: quality, speed with the load that made it noisy, anything else, size. */
function measureRank({ name, unit }: { name: string; unit: string }): number {
  if (name === 'perplexity') return 0
  if (name === bitsMeasure) return 0.5
  if (name === 'speed-up') return 2
  if (isTimed({ name })) return 3
  if (name === loadMeasure.name) return 4
  if (unit === 'share') return 1
  return name === 'parameters' || unit === 'bytes' ? 6 : 5
}

/** Sorts measures in that order. Those of one kind keep their order. */
export function orderMeasures<Measure extends { name: string; unit: string }>(measures: readonly Measure[]): Measure[] {
  return [...measures].sort((a, b) => measureRank(a) - measureRank(b))
}

/** Says what to expect if perplexity is `ratio` times the unpruned model's, as other models did in docs/results.md. Empty if little is lost. */
export function perplexityAdvice(ratio: number): string {
  if (ratio < 1.4) return ''
  const times = `Perplexity is ${formatTick(Number(ratio.toPrecision(2)))} times as high as before pruning:`
  if (ratio < 2) return `${times} expect answers that go astray.`
  return `${times} expect broken answers. Remove less, repair or recover.`
}
