import type { Preset } from '#contract/experiments/experiments.ts'
import type { ModelEntry, Transfer } from '#contract/models/models.ts'

/** The list with one entry replaced, or added at the end when it is new. */
export function replaceById<Entry extends { id: string }>(list: readonly Entry[], entry: Entry): Entry[] {
  return list.some(({ id }) => id === entry.id) ? list.map((old) => (old.id === entry.id ? entry : old)) : [...list, entry]
}

export function isUnderWay({ status }: Transfer): boolean {
  return status !== 'done' && status !== 'cancelled'
}

/** The preset that takes least: the quick look where there is one. */
export function choosePreset(presets: readonly Preset[]): Preset {
  const preset = presets.find(({ id }) => /quick/.test(id)) ?? presets[0]
  if (!preset) throw new Error('There is no ready experiment for this model. Set one up under New experiment.')
  return preset
}

/** `12 blocks of 160 · 4 heads, 2 key/value`. */
export function shapeText({ shape }: ModelEntry['description']): string {
  const heads = shape.heads === shape.keyValueHeads ? `${shape.heads} heads` : `${shape.heads} heads, ${shape.keyValueHeads} key/value`
  return `${shape.blocks} blocks of ${shape.hidden} · ${heads}`
}

/** What the library takes on disk, without what it only links to. */
export function ownedBytes(models: readonly ModelEntry[]): number {
  return models.filter(({ origin }) => origin !== 'linked').reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Whether a text looks like a name on the hub: `owner/name`, with an optional `@revision`. */
export function parseHubName(text: string): { name: string; revision?: string } | null {
  const match = /^(?:https?:\/\/[^/]+\/)?([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?\/?$/.exec(text.trim())
  if (!match?.[1]) return null
  return match[2] ? { name: match[1], revision: match[2] } : { name: match[1] }
}
