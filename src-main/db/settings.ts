import { Table } from './table.ts'

/** JSON values by name: the user's settings, and what the program remembers about this machine. */
export class SettingsTable extends Table {
  readonly #save: (name: string, value: string) => void = this.run('INSERT OR REPLACE INTO settings(name, value) VALUES (?, ?)')

  readonly #find: (name: string) => string | undefined = this.first('SELECT value FROM settings WHERE name = ?')
  readonly #names: () => string[] = this.all('SELECT name FROM settings WHERE NOT json_valid(value) ORDER BY name')

  /** Returns a value, or undefined if it is missing or damaged, so that one damaged row stops no start. */
  get(name: string): unknown {
    const text = this.#find(name)
    try {
      return text === undefined ? undefined : JSON.parse(text)
    } catch {
      return undefined
    }
  }

  /** The values that cannot be read. */
  problems(): string[] {
    return this.#names().map((name) => `The stored value "${name}" is not valid JSON, so its default is used. Save it again.`)
  }

  set(name: string, value: unknown): void {
    this.#save(name, JSON.stringify(value))
  }
}
