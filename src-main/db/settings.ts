import type { Database } from './database.ts'

/** JSON values by name: user settings, and what the program remembers about the machine. */
export function settingsTable(db: Database) {
  const find = db.prepare('SELECT value FROM settings WHERE name = ?').pluck()
  const save = db.prepare('INSERT OR REPLACE INTO settings(name, value) VALUES (?, ?)')
  return {
    get(name: string): unknown {
      const text = find.get(name) as string | undefined
      return text === undefined ? undefined : JSON.parse(text)
    },
    set: (name: string, value: unknown) => save.run(name, JSON.stringify(value)),
  }
}
