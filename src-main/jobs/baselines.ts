import { usedSameModel } from '#contract/runs/used-model.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import type { RunRow } from '#db/runs/runs.ts'

/** The dense run of a run's experiment that used the very same model. */
export function baselineIn(history: History, run: RunRow): RunRow | undefined {
  if (run.experiment === null) return undefined
  return history.runs.ofExperiment(run.experiment).findLast((other) => other.baseline === 1 && usedSameModel(other, run))
}

const isAhead = new Set(['draft', 'queued', 'running', 'paused', 'interrupted'])

/**
 * A run is compared with a dense run of the very model that it used. Where the model of an experiment was replaced after its baseline was
 * computed, the baseline is queued once more for the model that is there now. Gives the number of the new run.
 */
export function queueMissingBaseline(history: History, { experiment, model, baseline, fingerprint }: RunRow): number | undefined {
  if (experiment === null || baseline === 1 || fingerprint === null) return undefined
  const baselines = history.runs.ofExperiment(experiment).filter((one) => one.baseline === 1 && one.model === model)
  const old = baselines.findLast(({ status }) => status === 'done')
  const isThere = baselines.some((one) => isAhead.has(one.status) || (one.status === 'done' && one.fingerprint === fingerprint))
  if (!old || isThere) return undefined
  const request = history.documents.request(old.number)
  const number = history.runs.insert({
    ...old,
    id: newId('run'),
    name: `${old.name}, changed model`.slice(0, 200),
    status: 'draft',
    baseline: true,
    parent: old.id,
    tags: [],
    notes: '',
    createdAt: Date.now(),
    parameters: flattenParameters(request),
  })
  history.documents.insert(number, request)
  history.queue.enqueue([number])
  return number
}
