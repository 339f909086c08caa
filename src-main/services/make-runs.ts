import { denseMethod } from '#contract/experiments.ts'
import { type RunRequest, runRequest } from '#contract/run-request.ts'
import { newId } from '#db/ids.ts'
import { flattenParameters } from '#db/parameters.ts'
import type { Context } from './context.ts'
import { nominalOf, type PlannedRun, runName } from './grid.ts'
import type { Library } from './library.ts'

export interface RunMaking {
  experiment: string | null
  name?: string | undefined
  notes?: string
  tags?: string[]
  parent?: string | null
  /** How many seeds there are, so that a name says the seed only where it matters. */
  seeds?: number
}

/** Writes drafts; the caller queues them. To be called inside a transaction where several belong together. */
export function makeRuns(
  { history, gate }: Pick<Context, 'history' | 'gate'>,
  library: Library,
  planned: readonly PlannedRun[],
  making: RunMaking,
): { ids: string[]; numbers: number[] } {
  const made = planned.map(({ model, request }) => {
    const { path, description } = library.find(model)
    const full: RunRequest = structuredClone({ ...request, model: path })
    gate.settle(runRequest, full)
    const id = newId('run')
    const number = history.runs.insert({
      id,
      name: making.name ?? runName(request, making.seeds ?? 1),
      status: 'draft',
      experiment: making.experiment,
      model,
      method: request.method,
      baseline: request.method === denseMethod,
      seed: request.seed,
      nominal: nominalOf(request, description.shape.blocks),
      parent: making.parent ?? null,
      tags: making.tags ?? [],
      notes: making.notes ?? '',
      createdAt: Date.now(),
      parameters: flattenParameters(full),
    })
    history.documents.insert(number, full)
    return { id, number }
  })
  return { ids: made.map(({ id }) => id), numbers: made.map(({ number }) => number) }
}
