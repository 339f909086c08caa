import type { Inspected } from '#contract/comparison/inspected.ts'
import type { ScoredTask, TaskOutcomes } from '#contract/data/questions.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import type { Fit } from '#contract/pruning/fit.ts'
import type { Plan, TensorFile } from '#contract/pruning/plan.ts'
import type { Certified, Precision } from '#contract/pruning/precision.ts'
import type { Recovery } from '#contract/pruning/recovery.ts'
import type { Repair } from '#contract/pruning/repair.ts'
import type { RunDocument, Study } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { RunEnvironment } from '#contract/runs/runs.ts'
import type { Database, Statement } from '../database.ts'
import type { ValueStore } from '../values.ts'

interface DocumentRow {
  request: string
  resolved: string | null
  environment: string | null
  plan: string | null
  plan_file: string | null
  tensors: string | null
  width: string | null
  scores: string | null
  scores_file: string | null
  answers: string | null
  remarks: string | null
  phase_seconds: string | null
  calibration: string | null
  evaluation: string | null
  repair: string | null
  recovery: string | null
  fit: string | null
  study: string | null
  passes: string | null
  inspected: string | null
  outcomes: string | null
  precision: string | null
  certified: string | null
}

interface PlanColumns {
  value: string | null
  file: string | null
  tensors: string | null
}

export interface NeuronScores {
  scores: number[][]
  cuts: number[]
}

/** The long parts of a run. The request is kept unchanged; `resolved` holds what the engine filled in. */
export interface RunRecord {
  request: RunRequest
  resolved: Record<string, unknown>
  environment: RunEnvironment | null
  plan: Plan | null
  width: { kept: number[]; of: number } | null
  neuronScores: NeuronScores | null
  answers: { prompt: string; text: string }[]
  remarks: string[]
  phaseSeconds: Record<string, number>
  calibration: UsedData | null
  evaluation: UsedData[]
  repair: Repair | null
  recovery: Recovery | null
  fit: Fit | null
  study: Study | null
  passes: NonNullable<RunDocument['passes']> | null
  inspected: Inspected | null
  outcomes: TaskOutcomes[]
  precision: Precision | null
  certified: Certified | null
}

const jsonColumns = {
  resolved: 'resolved',
  environment: 'environment',
  width: 'width',
  answers: 'answers',
  remarks: 'remarks',
  phaseSeconds: 'phase_seconds',
  calibration: 'calibration',
  evaluation: 'evaluation',
  repair: 'repair',
  recovery: 'recovery',
  fit: 'fit',
  study: 'study',
  passes: 'passes',
  inspected: 'inspected',
  outcomes: 'outcomes',
  precision: 'precision',
  certified: 'certified',
} as const

/** Results that may lie in files, with the columns that name these. */
const fileColumns = ['plan', 'plan_file', 'tensors', 'scores', 'scores_file', 'questions', 'questions_file']

export function runDocumentsTable(db: Database, values: ValueStore) {
  const insert = db.prepare('INSERT INTO run_documents(run, request) VALUES (?, ?)')
  const find = db.prepare('SELECT * FROM run_documents WHERE run = ?')
  const request = db.prepare('SELECT request FROM run_documents WHERE run = ?').pluck()
  const plan = db.prepare('SELECT plan AS value, plan_file AS file, tensors FROM run_documents WHERE run = ?')
  const setPlan = db.prepare('UPDATE run_documents SET plan = ?, plan_file = ?, tensors = ? WHERE run = ?')
  const setScores = db.prepare('UPDATE run_documents SET scores = ?, scores_file = ? WHERE run = ?')
  const setQuestions = db.prepare('UPDATE run_documents SET questions = ?, questions_file = ? WHERE run = ?')
  const questions = db.prepare('SELECT questions AS value, questions_file AS file FROM run_documents WHERE run = ?')
  const results = [...Object.values(jsonColumns), ...fileColumns].map((column) => `${column} = NULL`)
  const clear = db.prepare(`UPDATE run_documents SET ${results.join(', ')} WHERE run = ?`)
  const setters = Object.fromEntries(
    Object.entries(jsonColumns).map(([field, column]) => [field, db.prepare(`UPDATE run_documents SET ${column} = ? WHERE run = ?`)]),
  )
  const readPlan = ({ tensors, ...stored }: PlanColumns): Plan | null => {
    const found = read<Plan>(stored)
    if (!found || tensors === null) return found
    return { ...found, tensors: (JSON.parse(tensors) as TensorFile[]).map(values.placeTensors) }
  }
  const read = <T>(row: { value: string | null; file: string | null }) =>
    row.value === null && row.file === null ? null : (values.get(row) as T)
  return {
    insert: (run: number, asked: RunRequest) => insert.run(run, JSON.stringify(asked)),
    request: (run: number) => JSON.parse(request.get(run) as string) as RunRequest,
    /** The plan, with the paths of its tensor files. */
    plan: (run: number) => readPlan(plan.get(run) as PlanColumns),
    /** Every question of its tasks with the scores of all choices. This is long. */
    questions: (run: number) => read<ScoredTask[]>(questions.get(run) as { value: string | null; file: string | null }) ?? [],
    setQuestions: (run: number, scored: readonly ScoredTask[]) => setStored(setQuestions, run, scored, values),
    clear: (run: number) => clear.run(run),
    set(run: number, record: Partial<Omit<RunRecord, 'request'>>): void {
      for (const [field, value] of Object.entries(record)) setters[field]?.run(JSON.stringify(value), run)
      if (record.plan !== undefined) storePlan(setPlan, run, record.plan, values)
      if (record.neuronScores !== undefined) setStored(setScores, run, record.neuronScores, values)
    },
    find(run: number): RunRecord {
      const row = find.get(run) as DocumentRow
      const parse = <T>(text: string | null, otherwise: T) => (text === null ? otherwise : (JSON.parse(text) as T))
      return {
        request: JSON.parse(row.request) as RunRequest,
        resolved: parse<Record<string, unknown>>(row.resolved, {}),
        environment: parse<RunEnvironment | null>(row.environment, null),
        plan: readPlan({ value: row.plan, file: row.plan_file, tensors: row.tensors }),
        width: parse<RunRecord['width']>(row.width, null),
        neuronScores: read<NeuronScores>({ value: row.scores, file: row.scores_file }),
        answers: parse<RunRecord['answers']>(row.answers, []),
        remarks: parse<string[]>(row.remarks, []),
        phaseSeconds: parse<Record<string, number>>(row.phase_seconds, {}),
        calibration: parse<UsedData | null>(row.calibration, null),
        evaluation: parse<UsedData[]>(row.evaluation, []),
        repair: parse<Repair | null>(row.repair, null),
        recovery: parse<Recovery | null>(row.recovery, null),
        fit: parse<Fit | null>(row.fit, null),
        study: parse<Study | null>(row.study, null),
        passes: parse<RunRecord['passes']>(row.passes, null),
        inspected: parse<Inspected | null>(row.inspected, null),
        outcomes: parse<TaskOutcomes[]>(row.outcomes, []),
        precision: parse<Precision | null>(row.precision, null),
        certified: parse<Certified | null>(row.certified, null),
      }
    },
  }
}

/** Tensor files are named in their own column, where the sweep finds them. */
function storePlan(statement: Statement, run: number, plan: Plan | null, values: ValueStore): void {
  const { tensors, ...rest } = plan ?? {}
  const stored = plan === null ? { value: null, file: null } : values.put(rest)
  statement.run(stored.value, stored.file, tensors ? JSON.stringify(tensors.map(values.nameTensors)) : null, run)
}

function setStored(statement: Statement, run: number, value: unknown, values: ValueStore): void {
  const stored = value === null ? { value: null, file: null } : values.put(value)
  statement.run(stored.value, stored.file, run)
}
