import { createHash } from 'node:crypto'
import { basename, dirname } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { denseMethod } from '#contract/experiments.ts'
import type { RunDocument } from '#contract/run.ts'
import type { RunRequest } from '#contract/run-request.ts'
import type { RunDetail, RunEntry } from '#contract/runs.ts'
import { openWorkbench, type Workbench } from '#services/workbench.ts'
import type { Runner } from './runner.ts'
import { isSampleModel } from './sample.ts'

/**
 * Runs that are kept in the history, done by a compute process of this command. Until the command has ended, its runs carry a tag
 * made of what was asked: the same command finds them again after a kill and goes on with them.
 */
export async function openHistoryRunner(requests: readonly RunRequest[], name: string): Promise<Runner> {
  const wantsSample = requests.some(({ model }) => isSampleModel(model))
  // What is named on the command line may be written.
  const writable = requests.flatMap(({ save }) => (save ? [dirname(save.folder)] : []))
  const workbench = await openWorkbench({ worksQueue: false, writable, ...(wantsSample ? {} : { bundledModel: null }) })
  try {
    const tag = `command ${createHash('sha256').update(JSON.stringify(requests)).digest('hex').slice(0, 12)}`
    const found = await unfinished(workbench, tag)
    const experiment =
      requests.length > 1 ? (found[0]?.experiment?.id ?? (await makeExperiment(workbench, requests, name, tag))) : undefined
    return new HistoryRunner(workbench, tag, experiment, await unfinished(workbench, tag))
  } catch (error) {
    await workbench.close()
    throw error
  }
}

/** The runs of a command that did not end, with those of it that did. */
async function unfinished(workbench: Workbench, tag: string): Promise<RunEntry[]> {
  const { rows } = await workbench.call('runs.query', {
    conditions: [{ field: 'tag', is: 'any of', value: [tag] }],
    limit: 1000,
    archived: 'all',
  })
  return rows
}

/** The model's id in the library, which it joins when it is not there yet. */
async function modelId(workbench: Workbench, path: string): Promise<string> {
  const known = (await workbench.call('models.list', {})).find((model) => model.path === path)
  return (known ?? (await workbench.call('models.add', { path, mode: 'link' }))).id
}

/** An experiment with its dense baseline; the pruning runs are added to it one by one. */
async function makeExperiment(workbench: Workbench, requests: readonly RunRequest[], name: string, tag: string): Promise<string> {
  const [first] = requests
  if (!first) throw new EspalierError('usage', 'There is nothing to run.')
  const { measures, backend, memoryBytes, localFolder } = first
  const grid = {
    models: [await modelId(workbench, first.model)],
    methods: [],
    amounts: [],
    measures,
    backend,
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(localFolder === undefined ? {} : { localFolder }),
  }
  const { experiment, runs } = await workbench.call('experiments.create', { name, grid, start: 'draft' })
  await workbench.call('runs.update', { ids: runs.map(({ id }) => id), addTags: [tag] })
  return experiment.id
}

class HistoryRunner implements Runner {
  readonly goesOn: boolean
  readonly #workbench: Workbench
  readonly #tag: string
  readonly #experiment: string | undefined
  readonly #runs: RunEntry[]
  readonly #taken = new Set<string>()

  constructor(workbench: Workbench, tag: string, experiment: string | undefined, runs: RunEntry[]) {
    this.#workbench = workbench
    this.#tag = tag
    this.#experiment = experiment
    this.#runs = runs
    this.goesOn = runs.some(({ status }) => status !== 'draft')
  }

  async run(_index: number, request: RunRequest, listen: Parameters<Runner['run']>[2]): Promise<RunDocument> {
    const id = (await this.#find(request)) ?? (await this.#make(request))
    this.#taken.add(id)
    const stop = this.#workbench.subscribe((event) => {
      if (event.name === 'run event' && event.data.run === id) listen(event.data.recorded.event)
      if (event.name === 'run changed' && event.data.run.id === id && event.data.run.progress)
        listen({ type: 'progress', progress: event.data.run.progress })
    })
    try {
      const before = await this.#workbench.call('runs.get', { id })
      if (before.status !== 'done') await this.#workbench.runNow(id)
      return toDocument(await this.#workbench.call('runs.get', { id }))
    } finally {
      stop()
    }
  }

  /** A run of the earlier start that was asked the same. */
  async #find(request: RunRequest): Promise<string | undefined> {
    for (const { id, method, seed } of this.#runs) {
      if (this.#taken.has(id) || method !== request.method || seed !== request.seed) continue
      const known = (await this.#workbench.call('runs.get', { id })).request
      if (JSON.stringify([known.amount, known.options]) === JSON.stringify([request.amount, request.options])) return id
    }
    return undefined
  }

  async #make({ model, ...request }: RunRequest): Promise<string> {
    const experiment = this.#experiment === undefined ? {} : { experiment: this.#experiment }
    const { id } = await this.#workbench.call('runs.create', {
      model: await modelId(this.#workbench, model),
      request,
      start: 'draft',
      ...experiment,
    })
    await this.#workbench.call('runs.update', { ids: [id], addTags: [this.#tag] })
    return id
  }

  async finish(): Promise<void> {
    const ids = (await unfinished(this.#workbench, this.#tag)).map(({ id }) => id)
    if (ids.length > 0) await this.#workbench.call('runs.update', { ids, removeTags: [this.#tag] })
    await this.close()
  }

  close(): Promise<void> {
    return this.#workbench.close()
  }
}

/** The document of a run in the history, as it was when the run ended. */
function toDocument(run: RunDetail): RunDocument {
  if (run.status !== 'done' || !run.plan) {
    const { problem } = run
    throw new EspalierError(
      problem?.code ?? 'internal',
      problem ? [problem.message, problem.advice].filter(Boolean).join(' ') : `The run is ${run.status}.`,
    )
  }
  return {
    model: basename(run.request.model),
    method: run.method,
    options: run.method === denseMethod ? {} : run.resolved,
    seed: run.seed,
    ...(run.calibration ? { calibration: run.calibration } : {}),
    evaluation: run.evaluation,
    sparsity: { nominal: run.nominal ?? 0, reached: run.reached ?? 0 },
    plan: run.plan,
    ...(run.repair ? { repair: run.repair } : {}),
    ...(run.fit ? { fit: run.fit } : {}),
    decisions: run.decisions,
    ...(run.selections.length > 0 ? { selections: run.selections } : {}),
    notes: run.remarks,
    measures: run.measures.map(({ best: _, ...measure }) => measure),
    ...(run.answers.length > 0 ? { answers: run.answers } : {}),
    seconds: run.phaseSeconds,
    backend: run.environment?.backend ?? '',
    version: run.environment?.version ?? '',
  }
}
