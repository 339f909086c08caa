import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Context } from '../context.ts'

/** Everything on a run's page, collected from its tables. */
export function runDetail({ history }: Pick<Context, 'history'>, row: RunRow): RunDetail {
  const [entry] = history.runs.entries([row.number], { details: true }) as [RunEntry]
  const record = history.documents.find(row.number)
  return {
    ...entry,
    ...record,
    notes: row.notes,
    modelDescription: history.models.find(row.model)?.description ?? null,
    decisions: history.events.decisions(row.number),
    selections: history.events.selections(row.number),
    spectra: history.events.spectra(row.number),
    recoveryPoints: history.events.recoveryPoints(row.number),
    gateSteps: history.events.gateSteps(row.number),
    stepsDone: history.steps.count(row.id),
    attempts: row.attempts,
  }
}
