import { fromJson, Table } from './table.ts'

/** JSON values by name: the user's settings, and what the program remembers about this machine. */
export class SettingsTable extends Table {
  readonly #save: (name: string, value: string) => void = this.run('INSERT OR REPLACE INTO settings(name, value) VALUES (?, ?)')

  readonly get: (name: string) => unknown = this.first('SELECT value FROM settings WHERE name = ?', fromJson<unknown>)

  set(name: string, value: unknown): void {
    this.#save(name, JSON.stringify(value))
  }
}
