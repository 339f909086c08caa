import type { EngineState } from '#contract/machine/engine-state.ts'
import type { HistoryState } from '#contract/machine/history.ts'
import type { SettingsChange, SettingsView, WorkbenchState } from '#contract/machine/settings.ts'
import { call, copyText, on } from '../../api/api.ts'
import { attempt, notify } from '../../lib/notices.svelte.ts'
import { stopAll } from '../../lib/schedule.ts'
import { theme } from '../../lib/theme.svelte.ts'

/** Devices are queried again only after this many milliseconds, because that starts a process. */
const freshFor = 5 * 60_000

/** Settings, engine and history file as the screen shows them. `busy` names what is under way. */
export class SettingsState {
  settings = $state.raw<SettingsView | null>(null)
  engine = $state.raw<EngineState | null>(null)
  history = $state.raw<HistoryState | null>(null)
  workbench = $state.raw<WorkbenchState | null>(null)
  busy = $state<'' | 'devices' | 'test' | 'backup' | 'restore' | 'check' | 'diagnostics' | 'unknown'>('')

  follow(): () => void {
    void this.#attempt('', async () => {
      this.settings = await call('settings.get', {})
      this.workbench = await call('workbench.get', {})
    })
    void this.#attempt('', async () => {
      this.engine = await call('engine.get', {})
      const { probedAt, problem } = this.engine
      if (problem !== null || Math.abs(Date.now() - (probedAt ?? 0)) > freshFor) this.engine = await call('engine.get', { probe: true })
    })
    void this.#attempt('', async () => {
      this.history = await call('history.get', {})
    })
    return stopAll(
      on('engine changed', ({ engine }) => (this.engine = engine)),
      on('settings changed', ({ settings }) => (this.settings = settings)),
    )
  }

  async change(changes: SettingsChange): Promise<void> {
    if (changes.theme) theme.set(changes.theme)
    await this.#attempt('', async () => {
      this.settings = await call('settings.update', changes)
    })
  }

  async setHubToken(token: string | null): Promise<void> {
    await this.#attempt('', async () => {
      this.settings = await call('settings.setHubToken', { token })
      notify(token === null ? 'Hub token removed' : 'Hub token saved')
    })
  }

  async detect(): Promise<void> {
    await this.#attempt('devices', async () => {
      this.engine = await call('engine.get', { probe: true })
    })
  }

  async selfTest(): Promise<void> {
    await this.#attempt('test', async () => {
      await call('engine.selfTest', {})
      this.engine = await call('engine.get', {})
    })
  }

  async copyDiagnostics(): Promise<void> {
    await this.#attempt('diagnostics', async () => {
      await copyText((await call('engine.diagnostics', {})).text)
      notify('Diagnostics copied')
    })
  }

  async backup(): Promise<void> {
    await this.#attempt('backup', async () => {
      await call('history.backup', {})
      this.history = await call('history.get', {})
      notify('History backed up')
    })
  }

  async check(): Promise<void> {
    await this.#attempt('check', async () => {
      this.history = await call('history.get', { check: true })
    })
  }

  async restore(name: string): Promise<void> {
    await this.#attempt('restore', async () => {
      this.history = await call('history.restore', { name })
      notify('Backup restored. The previous history is kept as another backup.')
    })
  }

  async removeUnknown(): Promise<void> {
    await this.#attempt('unknown', async () => {
      this.history = await call('history.removeUnknown', {})
      notify('Unknown values removed')
    })
  }

  async #attempt(what: SettingsState['busy'], action: () => Promise<void>): Promise<void> {
    this.busy = what
    await attempt(action)
    this.busy = ''
  }
}
