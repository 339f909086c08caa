import { existsSync, readFileSync } from 'node:fs'
import { type Settings, settings } from '#contract/machine/settings.ts'
import type { HubOptions } from '#hub/hub.ts'
import type { Context } from '../context.ts'

/** Where the history keeps them. */
export const settingsKey = 'settings'
export const environmentTokens = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']

/** The settings with defaults filled in. A value that this version does not accept falls back to its default. */
export function currentSettings({ history, folders }: Pick<Context, 'history' | 'folders'>): Settings {
  const defaults: Settings = {
    theme: 'system',
    backend: 'auto',
    memoryBytes: null,
    idleMinutes: 10,
    cpuSlots: null,
    notifyWhenDone: true,
    resumeRuns: true,
    folders: { models: folders.models, exports: folders.exports, cache: '' },
  }
  const saved = (history.settings.get(settingsKey) ?? {}) as Partial<Settings>
  const known = understood(settings.shape, { ...saved, folders: { ...defaults.folders, ...saved.folders } })
  return { ...defaults, ...known }
}

/** The values that their schemas accept. */
function understood(schemas: typeof settings.shape, values: Partial<Settings>): Partial<Settings> {
  const read = Object.entries(schemas).map(([name, schema]) => ({ name, ...schema.safeParse(values[name as keyof Settings]) }))
  return Object.fromEntries(read.flatMap(({ name, success, data }) => (success ? [[name, data]] : [])))
}

/** The workbench's hub connection: its own token file, and the cache folder if one is set. */
export function hubOptions(context: Pick<Context, 'history' | 'folders' | 'hub'>): HubOptions {
  const { cache } = currentSettings(context).folders
  return { tokenFile: context.folders.tokenFile, ...(cache ? { cacheFolder: cache } : {}), ...context.hub }
}

/** Every secret that must not appear in text that users share. */
export function secrets({ folders }: Pick<Context, 'folders'>): string[] {
  const file = existsSync(folders.tokenFile) ? [readFileSync(folders.tokenFile, 'utf8').trim()] : []
  return [...file, ...environmentTokens.flatMap((name) => process.env[name] ?? [])].filter(Boolean)
}
