import { existsSync, readFileSync } from 'node:fs'
import { type Settings, settings } from '#contract/machine/settings.ts'
import type { HubOptions } from '#hub/hub.ts'
import type { Context } from '../context.ts'

/** The key of the user's settings in the history. */
export const settingsKey = 'settings'
export const defaultIdleMinutes = 10
export const environmentTokens = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']

/** The settings with defaults filled in. A value that this version does not accept falls back to its default. */
export function currentSettings({ history, folders }: Pick<Context, 'history' | 'folders'>): Settings {
  const defaults: Settings = {
    theme: 'system',
    backend: 'auto',
    memoryBytes: null,
    idleMinutes: defaultIdleMinutes,
    cpuSlots: null,
    notifyWhenDone: true,
    resumeRuns: true,
    folders: { models: folders.models, exports: folders.exports, cache: '' },
  }
  const saved = (history.settings.get(settingsKey) ?? {}) as Partial<Settings>
  const known = acceptedValues(settings.shape, { ...saved, folders: { ...defaults.folders, ...saved.folders } })
  return { ...defaults, ...known }
}

/** Returns the values that their schemas accept, and drops the others. */
function acceptedValues(schemas: typeof settings.shape, values: Partial<Settings>): Partial<Settings> {
  const read = Object.entries(schemas).map(([name, schema]) => ({ name, ...schema.safeParse(values[name as keyof Settings]) }))
  return Object.fromEntries(read.flatMap(({ name, success, data }) => (success ? [[name, data]] : [])))
}

/** How the workbench connects to the hub: with its own token file, and with the cache folder from the settings if one is set. */
export function hubOptions(context: Pick<Context, 'history' | 'folders' | 'hub'>): HubOptions {
  const { cache } = currentSettings(context).folders
  return { tokenFile: context.folders.tokenFile, ...(cache ? { cacheFolder: cache } : {}), ...context.hub }
}

/** Returns every secret that must not appear in text that users share. */
export function secrets({ folders }: Pick<Context, 'folders'>): string[] {
  const file = existsSync(folders.tokenFile) ? [readFileSync(folders.tokenFile, 'utf8').trim()] : []
  return [...file, ...environmentTokens.flatMap((name) => process.env[name] ?? [])].filter(Boolean)
}
