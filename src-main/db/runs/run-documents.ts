import type { ScoredTask } from '#contract/data/questions.ts'
import type { Plan, TensorFile } from '#contract/pruning/plan.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { RunRecord } from '#contract/runs/runs.ts'
import { fromJson, fromJsonOrNull, Table } from '#db/sql-table.ts'
import type { Database } from '../database.ts'
import type { StoredValue, ValueStore } from '../values.ts'
import { columnOf } from './run-filter.ts'

type Stored = Omit<StoredValue, 'bytes'>
type PlanRow = Stored & { tensors: string | null }

/** The result fields of a run that has no results yet. Each is a JSON column of the same name in snake case. */
const noResults: Omit<RunRecord, 'request' | 'plan' | 'neuronScores'> = {
  resolved: {},
  environment: null,
  width: null,
  answers: [],
  remarks: [],
  phaseSeconds: {},
  calibration: null,
  evaluation: [],
  beginToken: null,
  repair: null,
  recovery: null,
  budget: null,
  experts: null,
  mixed: null,
  ranking: null,
  study: null,
  passes: null,
  inspected: null,
  outcomes: [],
  precision: null,
  certified: null,
}

/** Columns of results that may be in files, and the columns that name those files. */
const fileColumns = ['plan', 'plan_file', 'tensors', 'scores', 'scores_file', 'questions', 'questions_file']
const resultColumns = [...Object.keys(noResults).map(columnOf), ...fileColumns]

export class RunDocumentsTable extends Table {
  readonly #values: ValueStore
  readonly #find: (run: number) => Record<string, string | null> = this.one('SELECT * FROM run_documents WHERE run = ?')
  readonly request: (run: number) => RunRequest = this.one('SELECT request FROM run_documents WHERE run = ?', fromJson<RunRequest>)
  readonly #plan: (run: number) => PlanRow = this.one('SELECT plan AS value, plan_file AS file, tensors FROM run_documents WHERE run = ?')
  readonly #questions: (run: number) => Stored = this.one(
    'SELECT questions AS value, questions_file AS file FROM run_documents WHERE run = ?',
  )

  readonly insert: (run: number, request: RunRequest) => void = this.run('INSERT INTO run_documents(run, request) VALUES (?, ?)')
  readonly clear: (run: number) => void = this.run(
    `UPDATE run_documents SET ${resultColumns.map((column) => `${column} = NULL`).join(', ')} WHERE run = ?`,
  )

  constructor(db: Database, values: ValueStore) {
    super(db)
    this.#values = values
  }

  /** Returns the plan, with the paths of its tensor files. */
  plan(run: number): Plan | null {
    return this.#readPlan(this.#plan(run))
  }

  /** Returns every question of the run's tasks, with the scores of all choices. This is long. */
  questions(run: number): ScoredTask[] {
    return this.#read<ScoredTask[]>(this.#questions(run)) ?? []
  }

  setQuestions(run: number, scored: readonly ScoredTask[]): void {
    this.#update(run, this.#columns('questions', scored))
  }

  set(run: number, { plan, neuronScores, ...record }: Partial<Omit<RunRecord, 'request'>>): void {
    const fields = Object.entries(record).map(([field, value]) => [columnOf(field), JSON.stringify(value)])
    this.#update(run, {
      ...Object.fromEntries(fields),
      ...(plan === undefined ? {} : this.#planColumns(plan)),
      ...(neuronScores === undefined ? {} : this.#columns('scores', neuronScores)),
    })
  }

  find(run: number): RunRecord {
    const row = this.#find(run)
    const results = Object.entries(noResults).map(([field, none]) => [field, fromJsonOrNull(row[columnOf(field)] ?? null) ?? none])
    const { request, plan = null, plan_file = null, tensors = null, scores = null, scores_file = null } = row
    return {
      ...(Object.fromEntries(results) as typeof noResults),
      request: fromJson(request as string),
      plan: this.#readPlan({ value: plan, file: plan_file, tensors }),
      neuronScores: this.#read({ value: scores, file: scores_file }),
    }
  }

  #update(run: number, columns: Record<string, unknown>): void {
    this.update('run_documents', 'run', run, columns)
  }

  #read<T>(row: Stored): T | null {
    return row.value === null && row.file === null ? null : (this.#values.get(row) as T)
  }

  #readPlan({ tensors, ...stored }: PlanRow): Plan | null {
    const found = this.#read<Plan>(stored)
    if (!found || tensors === null) return found
    return { ...found, tensors: fromJson<TensorFile[]>(tensors).map((file) => this.#values.placeTensors(file)) }
  }

  #columns(name: string, value: unknown): Record<string, unknown> {
    const stored = value === null ? { value: null, file: null } : this.#values.put(value)
    return { [name]: stored.value, [`${name}_file`]: stored.file }
  }

  /** Names a plan's tensor files in a separate column, where `ValueStore.sweep` finds them. */
  #planColumns(plan: Plan | null): Record<string, unknown> {
    const { tensors, ...rest } = plan ?? {}
    return {
      ...this.#columns('plan', plan && rest),
      tensors: tensors ? tensors.map((file) => this.#values.nameTensors(file)) : null,
    }
  }
}
