import type { PromptSet } from '#contract/playground/playground.ts'
import type { SavedView } from '#contract/runs/runs.ts'
import { readRow, Table } from './sql-table.ts'

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

const readView = readRow<SavedView>({ json: ['state'] })

/** Saved filters, columns and sort orders of the history, each with a unique name. */
export class ViewsTable extends Table {
  readonly save: (view: SavedView) => SavedView = this.one(
    `INSERT INTO views(id, name, state, created_at) VALUES (@id, @name, @state, @createdAt)
     ON CONFLICT(name) DO UPDATE SET state = excluded.state RETURNING *`,
    readView,
  )
  readonly list: () => SavedView[] = this.all('SELECT * FROM views ORDER BY name', readView)
  readonly remove: (id: string) => number = this.run('DELETE FROM views WHERE id = ?')
}

const promptSetColumns = 'id, name, prompts, 0 AS built_in'
const readSet = readRow<PromptSet>({ json: ['prompts'], flags: ['builtIn'] })

export class PromptSetsTable extends Table {
  readonly save: (set: Pick<PromptSet, 'id' | 'name' | 'prompts'> & { createdAt: number }) => PromptSet = this.one(
    `INSERT INTO prompt_sets(id, name, prompts, created_at) VALUES (@id, @name, @prompts, @createdAt)
     ON CONFLICT(name) DO UPDATE SET prompts = excluded.prompts RETURNING ${promptSetColumns}`,
    readSet,
  )
  readonly list: () => PromptSet[] = this.all(`SELECT ${promptSetColumns} FROM prompt_sets ORDER BY name`, readSet)
  readonly remove: (id: string) => number = this.run('DELETE FROM prompt_sets WHERE id = ?')
}
