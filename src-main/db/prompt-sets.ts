import type { PromptSet } from '#contract/playground/playground.ts'
import { readRow, Table } from './table.ts'

const columns = 'id, name, prompts, 0 AS built_in'
const readSet = readRow<PromptSet>({ json: ['prompts'], flags: ['builtIn'] })

export class PromptSetsTable extends Table {
  readonly save: (set: Pick<PromptSet, 'id' | 'name' | 'prompts'> & { createdAt: number }) => PromptSet = this.one(
    `INSERT INTO prompt_sets(id, name, prompts, created_at) VALUES (@id, @name, @prompts, @createdAt)
     ON CONFLICT(name) DO UPDATE SET prompts = excluded.prompts RETURNING ${columns}`,
    readSet,
  )
  readonly list: () => PromptSet[] = this.all(`SELECT ${columns} FROM prompt_sets ORDER BY name`, readSet)
  readonly remove: (id: string) => number = this.run('DELETE FROM prompt_sets WHERE id = ?')
}
