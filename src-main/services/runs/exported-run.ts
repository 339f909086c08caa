import { bitsMeasure, whyApart } from '#contract/comparison/comparable.ts'
import { sourceName } from '#contract/data/source-name.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import type { ExportedRun, ExportedTexts } from '#contract/exports/exported-run.ts'
import type { Recovery } from '#contract/pruning/recovery.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import type { History } from '#db/history.ts'
import type { StoredModel } from '#db/models.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { baselineIn } from '#jobs/baselines.ts'

/** Returns what the model card of a saved model says about its run. Dense values come from the baseline of the run's experiment. */
export function exportedRun(history: History, row: RunRow, model: StoredModel): ExportedRun {
  const { calibration, repair, recovery, request } = history.documents.find(row.number)
  const baseline = baselineIn(history, row)
  const [own] = history.runs.entries([row.number])
  const { weights = null } = request
  const isSameType = baseline && (history.documents.request(baseline.number).weights ?? null) === weights
  const [dense] = isSameType ? history.runs.entries([baseline.number]) : []
  return {
    seed: row.seed,
    baseModel: model.origin === 'downloaded' && model.source ? model.source : model.name,
    calibration: textsOf(calibration),
    repair: repair && { kind: repair.kind, texts: textsOf(repair.calibration) },
    recovery: recovery && recoveredBy(recovery),
    weights,
    measures: lossesOf(own).map(({ name, dataset, value }) => {
      const before = lossesOf(dense).find((other) => other.name === name && other.dataset === dataset)
      const isComparable = own && dense && whyApart(own, dense, { name, dataset }) === null
      return { name, dataset: dataset || 'the evaluation text', before: (isComparable && before?.value) || null, after: value }
    }),
  }
}

/** The training that led to the kept weights; null if it made nothing better, so that the weights stayed unchanged. */
function recoveredBy({ best, points, tokens, trains = 'all', text }: Recovery): ExportedRun['recovery'] {
  return best === 0 ? null : { tokens: points[best]?.tokens ?? tokens, trains, texts: textsOf(text) }
}

function textsOf(data: UsedData | null): ExportedTexts {
  return (data?.parts ?? (data ? [data] : [])).map(({ source, windows, sequenceLength, beginToken }) => ({
    source: sourceName(source),
    windows,
    sequenceLength,
    ...(beginToken ? { beginToken } : {}),
  }))
}

const lossesOf = (run: RunEntry | undefined) => (run?.measures ?? []).filter(({ name }) => name === 'perplexity' || name === bitsMeasure)
