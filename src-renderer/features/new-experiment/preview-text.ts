import type { CombinationPreview, GridPreview } from '#contract/experiments/experiments.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import type { Problem } from '#contract/runs/request-preview.ts'
import { weightText } from '#contract/titles.ts'
import { formatBytes, formatPlural, formatSecondsRange } from '../../lib/format.ts'

/** Says what a combination removes. */
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
  const name = [format, type && weightText(type)].filter(Boolean).join(' ')
  if (problem !== null || bytes === null || keyValueBytes === null) return `${name}: not possible. ${problem ?? ''}`
  const weight = rangeText(least?.bytes ?? bytes, bytes)
  const memory = rangeText(least?.keyValueBytes ?? keyValueBytes, keyValueBytes)
  const doubt = perhaps ? `. May differ: ${perhaps}` : ''
  return `${name}: ${weight}, KV cache ${memory} for 1,000 tokens${doubt}`
}

/** `3.5 MB`, or `3.5 MB to 5.1 MB` if the size is not known exactly. */
export function rangeText(least: number, most: number): string {
  const [low, high] = [formatBytes(least), formatBytes(most)]
  return low === high ? high : `${low} to ${high}`
}

/** Says how long all runs take. Unknown if the work of one run is. Empty if the form has problems. */
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

/**
 * Divides problems into texts and tasks that cannot be downloaded, by id, and the sentences of the others. What is wrong with a task does
 * not matter before it is there.
 */
export function groupProblems(problems: readonly Problem[]): { absent: Map<string, string>; others: string[] } {
  const absent = new Map(problems.flatMap(({ absent: own }) => (own ? [[own.id, own.title]] : [])))
  const others = problems.filter((problem) => !problem.absent && !(problem.of && absent.has(problem.of.id)))
  return { absent, others: [...new Set(others.map(({ message }) => message))] }
}
