import type { RunStatus } from '#contract/runs/run-status.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import { describedModel } from '../fixtures/described-model.ts'

export interface RowWishes {
  name?: string
  status?: RunStatus
  method?: string
  nominal?: number
  seed?: number
  tags?: string[]
  notes?: string
  options?: Record<string, unknown>
  experiment?: string | null
}

/** A run with its request, on the one model that the tests of tables use. */
export function insertRun(history: History, wishes: RowWishes = {}): { id: string; number: number } {
  const [known] = history.models.list()
  const model = known?.id ?? newId('model')
  if (!known)
    history.models.insert({
      id: model,
      name: 'tiny',
      path: '/tiny',
      origin: 'linked',
      source: null,
      description: describedModel(),
      bytes: 1,
      parent: null,
      run: null,
      createdAt: 1,
    })
  const {
    name = 'a run',
    status = 'done',
    method = '2ssp',
    nominal = 0.5,
    seed = 0,
    tags = [],
    notes = '',
    options = {},
    experiment = null,
  } = wishes
  const request = { model: '/tiny', method, amount: { sparsity: nominal }, options, seed, measures: [], backend: 'auto' as const }
  const id = newId('run')
  const number = history.runs.insert({
    id,
    name,
    status,
    experiment,
    model,
    method,
    baseline: false,
    seed,
    nominal,
    parent: null,
    executor: null,
    tags,
    notes,
    createdAt: Date.now(),
    parameters: flattenParameters(request),
  })
  history.documents.insert(number, request)
  return { id, number }
}
