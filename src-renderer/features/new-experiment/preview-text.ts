import type { CombinationPreview, GridPreview } from '#contract/experiments/experiments.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import { formatBytes, formatPlural, formatSecondsRange } from '../../lib/format.ts'

/** What a combination removes, in words. */
export function removalText(preview: CombinationPreview): string {
  const parts: string[] = []
  const { attentionRemoved: attention, blocksRemoved: blocks, neuronsRemovedPerBlock: neurons, expertsRemoved: experts } = preview
  if (blocks) parts.push(formatPlural(blocks, 'block'))
  if (attention && attention !== blocks) parts.push(`${attention} attention`)
  if (neurons) parts.push(`${formatPlural(neurons, 'neuron')} per block`)
  if (experts) parts.push(formatPlural(experts, 'expert'))
  return parts.join(', ') || '–'
}

/** The result's size in one format, or why the format cannot hold it. */
export function formatText({ format, type, bytes, keyValueBytes, problem, least, perhaps }: FormatOutline): string {
  const name = [format, type].filter(Boolean).join(' ')
  if (problem !== null || bytes === null || keyValueBytes === null) return `${name}: not possible. ${problem ?? ''}`
  const weight = rangeText(least?.bytes ?? bytes, bytes)
  const memory = rangeText(least?.keyValueBytes ?? keyValueBytes, keyValueBytes)
  const doubt = perhaps ? `. May differ: ${perhaps}` : ''
  return `${name}: ${weight}, KV cache ${memory} for 1,000 tokens${doubt}`
}

/** `3.5 MB`, or `3.5 MB to 5.1 MB` if it is not known yet. */
function rangeText(least: number, most: number): string {
  const [low, high] = [formatBytes(least), formatBytes(most)]
  return low === high ? high : `${low} to ${high}`
}

/** The time of all runs. That of a run that has to meet a speed is not known before it measures. */
export function timeText({ seconds, problems, combinations }: Pick<GridPreview, 'seconds' | 'problems' | 'combinations'>): string {
  if (seconds) return formatSecondsRange(seconds)
  if (problems.length > 0) return ''
  return combinations.some((combination) => combination.seconds) ? 'time unknown' : 'measuring speed …'
}

/** The title of a row of the preview, with its model if there are several. */
export function rowTitle({ name, model, runs }: CombinationPreview, models: ReadonlyMap<string, string>): string {
  const seeds = runs > 1 ? `, ${formatPlural(runs, 'seed')}` : ''
  return `${models.size > 1 ? `${models.get(model) ?? model}: ` : ''}${name}${seeds}`
}
