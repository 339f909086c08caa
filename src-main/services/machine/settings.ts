import { chmodSync, existsSync, rmSync } from 'node:fs'
import type { SettingsView } from '#contract/machine/settings.ts'
import { writeDurably } from '#db/values.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { currentSettings, environmentTokens, settingsKey } from './current-settings.ts'

export class SettingsService extends Service {
  readonly calls: Calls<'settings'> = {
    'settings.get': () => this.#view(),
    'settings.update': (change) => {
      const now = currentSettings(this.parts)
      this.history.settings.set(settingsKey, { ...now, ...change, folders: { ...now.folders, ...change.folders } })
      if (change.cpuSlots !== undefined && change.cpuSlots !== now.cpuSlots) this.parts.shareProcessor(change.cpuSlots)
      this.parts.memory.review()
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
