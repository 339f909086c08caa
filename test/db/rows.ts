import { generationSettings } from '#contract/playground/generation-settings.ts'
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

/** A run with its request, on the one model that the database tests use. */
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

/** A transcript in which all three columns answered; returns its id. */
export function insertTranscript(history: History, prompts: number): string {
  const id = newId('talk')
  const columns = ['dense', 'half', 'quarter'].map((name) => ({ model: { id: 'model-x', name }, run: null }))
  const asked = Array.from({ length: prompts }, (_, prompt) => `Prompt ${prompt}`)
  const settings = generationSettings.parse({})
  history.transcripts.insert({ id, title: 'To be judged', prompts: asked, columns, settings, blind: false, owner: 'x', createdAt: 1 })
  for (const prompt of asked.keys())
    for (const column of columns.keys())
      history.transcripts.addAnswer(id, {
        column,
        prompt,
        text: `answer ${column} to ${prompt}`,
        tokens: [],
        end: 'length',
        seconds: 1,
        firstTokenSeconds: null,
        tokensPerSecond: null,
        problem: null,
      })
  history.transcripts.patch(id, { status: 'done' })
  return id
}
