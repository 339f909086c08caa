import type { ExperimentEntry, Grid } from '#contract/experiments/experiments.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { Database } from './database.ts'

interface ExperimentRow {
  id: string
  name: string
  tags: string
  starred: number
  archived_at: number | null
  created_at: number
  grid: string | null
  notes: string
}

export interface NewExperiment {
  id: string
  name: string
  notes: string
  tags: string[]
  grid: Grid | null
  createdAt: number
}

export interface ExperimentPatch {
  name?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  archivedAt?: number | null | undefined
}

export function experimentsTable(db: Database) {
  const insert = db.prepare('INSERT INTO experiments(id, name, notes, tags, grid, created_at) VALUES (?, ?, ?, ?, ?, ?)')
  const find = db.prepare('SELECT * FROM experiments WHERE id = ?')
  const list = db.prepare('SELECT * FROM experiments WHERE archived_at IS NULL OR ? ORDER BY created_at DESC, id DESC')
  const counts = db.prepare('SELECT status, count(*) AS runs FROM runs WHERE experiment = ? GROUP BY status')
  const baselines = db.prepare('SELECT id FROM runs WHERE experiment = ? AND baseline = 1 ORDER BY number').pluck()
  const changedModels = db
    .prepare(
      `SELECT m.name FROM runs r JOIN models m ON m.id = r.model WHERE r.experiment = ? AND r.status = 'done'
       GROUP BY r.model HAVING count(DISTINCT coalesce(r.fingerprint, '')) > 1 ORDER BY m.name`,
    )
    .pluck()
  const archivedAt = db.prepare('SELECT archived_at FROM experiments WHERE id = ?').pluck()
  const remove = db.prepare('DELETE FROM experiments WHERE id = ?')
  const grid = db.prepare('SELECT grid FROM experiments WHERE id = ?').pluck()

  function toEntry(row: ExperimentRow): ExperimentEntry {
    const byStatus = counts.all(row.id) as { status: RunStatus; runs: number }[]
    return {
      id: row.id,
      name: row.name,
      notes: row.notes,
      tags: JSON.parse(row.tags) as string[],
      starred: row.starred === 1,
      archived: row.archived_at !== null,
      createdAt: row.created_at,
      counts: Object.fromEntries(byStatus.map(({ status, runs }) => [status, runs])),
      runs: byStatus.reduce((sum, { runs }) => sum + runs, 0),
      baselines: baselines.all(row.id) as string[],
      changedModels: changedModels.all(row.id) as string[],
    }
  }

  return {
    insert: ({ id, name, notes, tags, grid, createdAt }: NewExperiment) =>
      insert.run(id, name, notes, JSON.stringify(tags), grid && JSON.stringify(grid), createdAt),
    find(id: string): ExperimentEntry | undefined {
      const row = find.get(id) as ExperimentRow | undefined
      return row && toEntry(row)
    },
    list: (archived: boolean) => (list.all(Number(archived)) as ExperimentRow[]).map(toEntry),
    grid(id: string): Grid | null {
      const text = grid.get(id) as string | null | undefined
      return text ? (JSON.parse(text) as Grid) : null
    },
    archivedAt: (id: string) => (archivedAt.get(id) ?? null) as number | null,
    remove: (id: string) => remove.run(id),
    patch(id: string, { name, notes, tags, starred, archivedAt }: ExperimentPatch): void {
      const values = {
        name,
        notes,
        tags: tags && JSON.stringify(tags),
        starred: starred === undefined ? undefined : Number(starred),
        archived_at: archivedAt,
      }
      for (const [column, value] of Object.entries(values)) {
        if (value !== undefined) db.prepare(`UPDATE experiments SET ${column} = ? WHERE id = ?`).run(value, id)
      }
    },
  }
}
