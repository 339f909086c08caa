import { sourceName } from '#contract/data/source-name.ts'
import type { ExportedRun } from '#contract/exports/exported-run.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import type { History } from '#db/history.ts'
import type { StoredModel } from '#db/models.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { baselineIn } from '#jobs/baselines.ts'

/** Returns what the model card of a saved model says about its run. Dense perplexities come from the baseline of the run's experiment. */
export function exportedRun(history: History, row: RunRow, model: StoredModel): ExportedRun {
  const { calibration } = history.documents.find(row.number)
  const baseline = baselineIn(history, row)
  const [own] = history.runs.entries([row.number])
  const [dense] = baseline ? history.runs.entries([baseline.number]) : []
  return {
    seed: row.seed,
    baseModel: model.origin === 'downloaded' && model.source ? model.source : model.name,
    calibration: (calibration?.parts ?? (calibration ? [calibration] : [])).map(({ source, windows, sequenceLength }) => ({
      source: sourceName(source),
      windows,
      sequenceLength,
    })),
    perplexities: perplexitiesOf(own).map(({ dataset, value }) => ({
      dataset: dataset || 'the evaluation text',
      before: perplexitiesOf(dense).find((other) => other.dataset === dataset)?.value ?? null,
      after: value,
    })),
  }
}

const perplexitiesOf = (run: RunEntry | undefined) => (run?.measures ?? []).filter(({ name }) => name === 'perplexity')
