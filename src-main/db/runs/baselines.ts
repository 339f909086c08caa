import { usedSameModel } from '#contract/runs/used-model.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { flattenParameters } from './parameters.ts'
import type { RunRow } from './runs.ts'

/** Returns the dense run of the same experiment that used exactly the same model, measured in the same weight type if there is one. */
export function baselineIn(history: History, run: RunRow): RunRow | undefined {
  if (run.experiment === null) return undefined
  const baselines = history.runs.ofExperiment(run.experiment).filter((other) => other.baseline === 1 && usedSameModel(other, run))
  const weightsOf = ({ number }: RunRow) => history.documents.request(number).weights
  return baselines.findLast((other) => weightsOf(other) === weightsOf(run)) ?? baselines.at(-1)
}

const unfinished = new Set(['draft', 'queued', 'running', 'paused', 'interrupted'])

/**
 * A run needs a dense baseline of exactly the model it used. If an experiment's model was replaced after its baseline was computed, this
 * queues another baseline for the current model and returns the new run's number.
 */
export function queueMissingBaseline(history: History, { experiment, model, baseline, fingerprint }: RunRow): number | undefined {
  if (experiment === null || baseline === 1 || fingerprint === null) return undefined
  const baselines = history.runs.ofExperiment(experiment).filter((one) => one.baseline === 1 && one.model === model)
  const old = baselines.findLast(({ status }) => status === 'done')
  const isThere = baselines.some((one) => unfinished.has(one.status) || (one.status === 'done' && one.fingerprint === fingerprint))
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
