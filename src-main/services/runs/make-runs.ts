import { EspalierError } from '#contract/errors.ts'
import { type RunRequest, runRequest } from '#contract/runs/run-request.ts'
import { denseMethod } from '#contract/titles.ts'
import { newId } from '#db/ids.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import { clusterProfiles } from '../clusters/clusters.ts'
import { nominalOf, type PlannedRun, runName } from '../experiments/grid.ts'
import type { Parts } from '../service.ts'
import { previewRuns, refuseProblems } from './preview-runs.ts'

export interface RunMaking {
  experiment: string | null
  name?: string | undefined
  parent?: string | null
  /** Number of seeds; names include the seed only if there are several. */
  seeds?: number
  /** The cluster that computes them; null for this machine. */
  executor?: string | null | undefined
  start: 'draft' | 'queue'
}

/** Checks runs, stores them as drafts, and queues them if `start` says so. Returns their numbers. */
export async function makeRuns(parts: Parts, planned: readonly PlannedRun[], making: RunMaking): Promise<number[]> {
  refuseProblems((await previewRuns(parts, planned, { executor: making.executor })).flatMap(({ problems }) => problems))
  return writeRuns(parts, planned, making)
}

/** Stores runs that were already checked, and queues them, in one transaction with what `also` does. */
export function writeRuns(parts: Parts, planned: readonly PlannedRun[], making: RunMaking, also: () => void = () => {}): number[] {
  const { history, queue } = parts
  if (making.executor && !clusterProfiles(history).some(({ name }) => name === making.executor))
    throw new EspalierError(
      'not-found',
      `There is no cluster ${JSON.stringify(making.executor)}. Add it in the settings, or choose this machine.`,
    )
  return queue.change(() => {
    also()
    if (making.experiment !== null) history.experiments.get(making.experiment)
    const made = planned.map((one) => writeRun(parts, one, making))
    if (making.start === 'draft') return { changed: made.map(({ number }) => number) }
    return queue.write(
      'enqueue',
      made.map(({ id }) => history.runs.get(id)),
    )
  })
}

function writeRun(
  { history, gate, library }: Parts,
  { model, request }: PlannedRun,
  { name, experiment, parent = null, seeds = 1, executor = null }: RunMaking,
): { id: string; number: number } {
  const { path, description } = library.find(model)
  const full: RunRequest = structuredClone({ ...request, model: path })
  gate.settle(runRequest, full)
  const id = newId('run')
  const number = history.runs.insert({
    id,
    name: name ?? runName(request, seeds),
    status: 'draft',
    experiment,
    model,
    method: request.method,
    baseline: request.method === denseMethod && request.weights === undefined,
    seed: request.seed,
    nominal: nominalOf(request, description.shape.blocks),
    parent,
    executor,
    tags: [],
    notes: '',
    createdAt: Date.now(),
    parameters: flattenParameters(full),
  })
  history.documents.insert(number, full)
  return { id, number }
}
