import type { Preset } from '#contract/experiments/experiments.ts'
import type { EngineState } from '#contract/machine/engine-state.ts'
import type { ModelEntry, Transfer } from '#contract/models/models.ts'
import { weightText } from '#contract/titles.ts'
import { formatBytes, formatInteger, formatPlural, formatSeconds } from '../../lib/format.ts'

/** The list with one entry replaced, or added at the end when it is new. */
export function replaceById<Entry extends { id: string }>(list: readonly Entry[], entry: Entry): Entry[] {
  return list.some(({ id }) => id === entry.id) ? list.map((old) => (old.id === entry.id ? entry : old)) : [...list, entry]
}

/** What a saved model's perplexity was measured on, if that is not plainly its file: `, measured as Q8_0`. */
export function measuredAs({ pruned, description }: Pick<ModelEntry, 'pruned' | 'description'>): string {
  if (pruned?.weights) return `, measured as ${weightText(pruned.weights)}`
  return description.unpacked ? ', measured before it was quantised' : ''
}

export function isUnderWay({ status }: Transfer): boolean {
  return status !== 'done' && status !== 'cancelled'
}

export const transferTitles: Readonly<Record<Transfer['kind'], string>> = {
  download: 'Download',
  copy: 'Copy',
  export: 'Save',
  bench: 'Measure',
}

/** Says how far a transfer is, such as `1 MB of 2 MB · 3 s left` or `turn 3 of 8`; nothing while it is not known. */
export function transferText({ problem, turns, doneBytes, totalBytes, bytesPerSecond, secondsLeft }: Transfer): string {
  if (problem) return problem
  if (turns) return `turn ${turns.done} of ${turns.total}`
  if (totalBytes === null && doneBytes === 0) return ''
  return [
    totalBytes === null ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`,
    ...(bytesPerSecond ? [`${formatBytes(bytesPerSecond)}/s`] : []),
    ...(secondsLeft === null ? [] : [`${formatSeconds(secondsLeft)} left`]),
  ].join(' · ')
}

/** The share of a transfer that is done; null while that is not known. */
export function transferShare({ turns, doneBytes, totalBytes, status }: Transfer): number | null {
  if (turns) return turns.done / Math.max(1, turns.total)
  if (totalBytes) return doneBytes / totalBytes
  return status === 'running' ? null : 0
}

/** Says how far the measurement of a begin token is: it reads the whole model if no run has read it before. */
export function measuringText(transfer: Transfer | null): string {
  const share = transfer && transferShare(transfer)
  const doing = transfer?.totalBytes && !transfer.turns ? 'Reading' : 'Measuring'
  return share === null ? `${doing} …` : `${doing} ${Math.floor(100 * share)} %`
}

/** Returns the quick look if there is one, otherwise the first preset. */
export function choosePreset(presets: readonly Preset[]): Preset {
  const preset = presets.find(({ id }) => /quick/.test(id)) ?? presets[0]
  if (!preset) throw new Error('There is no ready experiment for this model. Set one up under New experiment.')
  return preset
}

/** `12 blocks, 160 wide · 4 heads, 2 key/value`. */
export function shapeText({ shape, blocks }: ModelEntry['description']): string {
  const experts = blocks.flatMap((block) => block.experts ?? [])
  const heads = formatPlural(shape.heads, 'head') + (shape.heads === shape.keyValueHeads ? '' : `, ${shape.keyValueHeads} key/value`)
  return [
    `${formatPlural(shape.blocks, 'block')}, ${shape.hidden} wide`,
    ...(experts.length > 0 ? [rangeText(experts, 'expert')] : []),
    heads,
  ].join(' · ')
}

/** The width of a model's MLPs, or how many experts its mixtures have and how wide each is. A block may lack its MLP. */
export function mlpText({ blocks }: Pick<ModelEntry['description'], 'blocks'>): string {
  const mixtures = blocks.flatMap(({ experts, intermediate }) => (experts === undefined ? [] : [{ experts, intermediate }]))
  const dense = blocks.flatMap(({ experts, intermediate }) => (experts === undefined && intermediate > 0 ? [intermediate] : []))
  if (mixtures.length === 0) return dense.length === 0 ? 'no MLPs' : `MLP ${rangeText(dense)}`
  const others = dense.length > 0 ? `, MLP ${rangeText(dense)} in ${dense.length} of ${formatPlural(blocks.length, 'block')}` : ''
  const widths = mixtures.map(({ intermediate }) => intermediate)
  return `${rangeText(
    mixtures.map(({ experts }) => experts),
    'expert',
  )} of ${rangeText(widths, 'neuron')}${others}`
}

/** `6 to 8`, or `8` if all are equal, followed by the unit if it is given. */
function rangeText(values: readonly number[], counted?: string): string {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  return `${low < high ? `${formatInteger(low)} to ` : ''}${counted ? formatPlural(high, counted) : formatInteger(high)}`
}

/** Says whether a model's weights fit in memory as float32, and if not, that they will be streamed. */
export function fitText(parameters: number, freeBytes: number): string {
  const [needed, free] = [4 * parameters, freeBytes].map(formatBytes)
  return 4 * parameters <= freeBytes
    ? `Fits this machine: its weights need ${needed}, ${free} of memory is free.`
    : `Its weights need ${needed}, but ${free} of memory is free. They will be streamed from disk block by block (slower).`
}

/** Free memory of the first GPU that reports it, otherwise of the machine. */
export function freeMemory({ report, memory }: EngineState): number {
  return report?.devices.find(({ kind, memoryBytes }) => kind === 'gpu' && memoryBytes !== null)?.memoryBytes ?? memory.freeBytes
}

/** Parses `owner/name` or `owner/name@revision`, also as the end of a URL; null if the text is no such name. */
export function parseHubName(text: string): { name: string; revision?: string } | null {
  const match = /^(?:https?:\/\/[^/]+\/)?([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?\/?$/.exec(text.trim())
  if (!match?.[1]) return null
  return match[2] ? { name: match[1], revision: match[2] } : { name: match[1] }
}
