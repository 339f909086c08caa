import type { PromptSet } from '#contract/playground/playground.ts'
import type { Database } from './database.ts'

interface PromptSetRow {
  id: string
  name: string
  prompts: string
}

export function promptSetsTable(db: Database) {
  const save = db.prepare(
    'INSERT INTO prompt_sets(id, name, prompts, created_at) VALUES (?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET prompts = excluded.prompts RETURNING *',
  )
  const list = db.prepare('SELECT * FROM prompt_sets ORDER BY name')
  const remove = db.prepare('DELETE FROM prompt_sets WHERE id = ?')
  return {
    save: (id: string, name: string, prompts: string[], createdAt: number) =>
      toSet(save.get(id, name, JSON.stringify(prompts), createdAt) as PromptSetRow),
    list: () => (list.all() as PromptSetRow[]).map(toSet),
    remove: (id: string) => remove.run(id).changes === 1,
  }
}

function toSet({ id, name, prompts }: PromptSetRow): PromptSet {
  return { id, name, prompts: JSON.parse(prompts) as string[], builtIn: false }
}
