import { chmodSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { type Settings, type SettingsView, settings } from '#contract/machine/settings.ts'
import { writeDurably } from '#db/values.ts'
import type { HubOptions } from '#hub/hub.ts'
import type { Calls, Context } from '../context.ts'
import { Service } from '../service.ts'

const key = 'settings'
const environmentTokens = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']

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
  const saved = (history.settings.get(key) ?? {}) as Partial<Settings>
  const known = understood(settings.shape, { ...saved, folders: { ...defaults.folders, ...saved.folders } })
  return { ...defaults, ...known }
}

/** The values that their schemas accept. */
function understood(schemas: typeof settings.shape, values: Partial<Settings>): Partial<Settings> {
  const read = Object.entries(schemas).map(([name, schema]) => ({ name, ...schema.safeParse(values[name as keyof Settings]) }))
  return Object.fromEntries(read.flatMap(({ name, success, data }) => (success ? [[name, data]] : [])))
}

export class SettingsService extends Service {
  readonly calls: Calls<'settings'> = {
    'settings.get': () => this.#view(),
    'settings.update': (change) => {
      const now = currentSettings(this.parts)
      this.history.settings.set(key, { ...now, ...change, folders: { ...now.folders, ...change.folders } })
      if (change.cpuSlots !== undefined && change.cpuSlots !== now.cpuSlots) this.parts.shareProcessor(change.cpuSlots)
      return this.#tell()
    },
    'settings.setHubToken': ({ token }) => {
      const { tokenFile } = this.parts.folders
      if (token === null) rmSync(tokenFile, { force: true })
      else {
        writeDurably(tokenFile, Buffer.from(`${token}\n`))
        chmodSync(tokenFile, 0o600)
      }
      return this.#tell()
    },
  }

  #view(): SettingsView {
    const { folders } = this.parts
    const fromEnvironment = environmentTokens.some((name) => process.env[name])
    const present = fromEnvironment || existsSync(folders.tokenFile)
    return {
      ...currentSettings(this.parts),
      dataFolder: folders.data,
      hubToken: { present, from: fromEnvironment ? 'environment' : present ? 'file' : 'none' },
    }
  }

  #tell(): SettingsView {
    const view = this.#view()
    this.parts.emit({ name: 'settings changed', data: { settings: view } })
    return view
  }
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
