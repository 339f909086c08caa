import type { PromptSet } from '#contract/playground/playground.ts'
import { Table } from './table.ts'

interface PromptSetRow {
  id: string
  name: string
  prompts: string
}

export class PromptSetsTable extends Table {
  readonly save: (set: Pick<PromptSet, 'id' | 'name' | 'prompts'> & { createdAt: number }) => PromptSet = this.one(
    `INSERT INTO prompt_sets(id, name, prompts, created_at) VALUES (@id, @name, @prompts, @createdAt)
     ON CONFLICT(name) DO UPDATE SET prompts = excluded.prompts RETURNING *`,
    toSet,
  )
  readonly list: () => PromptSet[] = this.all('SELECT * FROM prompt_sets ORDER BY name', toSet)
  readonly remove: (id: string) => number = this.run('DELETE FROM prompt_sets WHERE id = ?')
}

function toSet({ id, name, prompts }: PromptSetRow): PromptSet {
  return { id, name, prompts: JSON.parse(prompts) as string[], builtIn: false }
}
