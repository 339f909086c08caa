import type { ExperimentEntry, Grid } from '#contract/experiments/experiments.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import { inspectionTitles } from '#contract/titles.ts'
import { fromJsonOrNull, readRow, Table } from './sql-table.ts'

interface NewExperiment {
  id: string
  name: string
  notes: string
  tags: string[]
  grid: Grid | null
  createdAt: number
}

interface ExperimentPatch {
  name?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  archivedAt?: number | null | undefined
}

const inspections = Object.keys(inspectionTitles)
  .map((method) => `'${method}'`)
  .join()

const selected = 'SELECT id, name, notes, tags, starred, archived_at IS NOT NULL AS archived, created_at FROM experiments'
const readExperiment = readRow<Omit<ExperimentEntry, 'counts' | 'runs' | 'baselines' | 'changedModels'>>({
  json: ['tags'],
  flags: ['starred', 'archived'],
})

export class ExperimentsTable extends Table {
  /** What inspects the runs of an experiment is no run of it. */
  readonly #counts: (id: string) => { status: RunStatus; runs: number }[] = this.all(
    `SELECT status, count(*) AS runs FROM runs WHERE experiment = ? AND method NOT IN (${inspections}) GROUP BY status`,
  )
  readonly #baselines: (id: string) => string[] = this.all('SELECT id FROM runs WHERE experiment = ? AND baseline = 1 ORDER BY number')
  readonly #changedModels: (id: string) => string[] = this.all(
    `SELECT m.name FROM runs r JOIN models m ON m.id = r.model WHERE r.experiment = ? AND r.status = 'done'
     GROUP BY r.model HAVING count(DISTINCT coalesce(r.fingerprint, '')) > 1 ORDER BY m.name`,
  )
  readonly #toEntry = (row: object): ExperimentEntry => {
    const experiment = readExperiment(row)
    const byStatus = this.#counts(experiment.id)
    return {
      ...experiment,
      counts: Object.fromEntries(byStatus.map(({ status, runs }) => [status, runs])),
      runs: byStatus.reduce((sum, { runs }) => sum + runs, 0),
      baselines: this.#baselines(experiment.id),
      changedModels: this.#changedModels(experiment.id),
    }
  }

  readonly insert: (experiment: NewExperiment) => void = this.run(
    'INSERT INTO experiments(id, name, notes, tags, grid, created_at) VALUES (@id, @name, @notes, @tags, @grid, @createdAt)',
  )
  readonly find: (id: string) => ExperimentEntry | undefined = this.first(`${selected} WHERE id = ?`, this.#toEntry)
  readonly list: (archived: boolean) => ExperimentEntry[] = this.all(
    `${selected} WHERE archived_at IS NULL OR ? ORDER BY created_at DESC, id DESC`,
    this.#toEntry,
  )
  readonly grid: (id: string) => Grid | null | undefined = this.first('SELECT grid FROM experiments WHERE id = ?', fromJsonOrNull<Grid>)
  readonly archivedAt: (id: string) => number | null | undefined = this.first('SELECT archived_at FROM experiments WHERE id = ?')
  readonly remove: (id: string) => void = this.run('DELETE FROM experiments WHERE id = ?')

  /** Throws if there is none. */
  get(id: string): ExperimentEntry {
    return this.known('experiment', id, this.find(id))
  }

  patch(id: string, { archivedAt, ...patch }: ExperimentPatch): void {
    this.update('experiments', 'id', id, { ...patch, archived_at: archivedAt })
  }
}
