import { z } from 'zod'
import type { Checked, Output } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import type { CombinationPreview, ExperimentEntry, Grid, GridPreview, QuickAnswer, QuickSizes } from '#contract/experiments/experiments.ts'
import { formatOutline } from '#contract/exports/exports.ts'
import { isOfSample, smallerSiblings } from '#contract/models/models.ts'
import type { Problem, RequestPreview } from '#contract/runs/request-preview.ts'
import type { Amount } from '#contract/runs/run-request.ts'
import { addRanges, type RunEstimate } from '#contract/runs/time/estimate.ts'
import { denseMethod, type GgufType } from '#contract/titles.ts'
import { newId } from '#db/ids.ts'
import { checkNotes } from '../check-notes.ts'
import type { Calls } from '../context.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { askCatalogue } from '../machine/catalogue.ts'
import { safeFileName } from '../models/folders.ts'
import { writeRuns } from '../runs/make-runs.ts'
import { previewRuns, refuseProblems } from '../runs/preview-runs.ts'
import { Service } from '../service.ts'
import { withoutShared } from './estimate-seconds.ts'
import { exportExperiment, importExperiment } from './experiment-file.ts'
import { combinationsOf, gridOfRun, overSeeds, type PlannedRun, runName } from './grid.ts'
import { bestMethod, denseTypes, presetsFor } from './presets.ts'
import { checkSize, joinSizes, mostRemoved, quickGrids, quickName, quickSeconds, smallestType } from './quick-answer.ts'

export class ExperimentsService extends Service {
  readonly calls: Calls<'experiments'> = {
    'experiments.list': ({ archived }) => this.history.experiments.list(archived),
    'experiments.get': ({ id }) => this.#find(id),
    'experiments.presets': async ({ model }) => {
      const library = await this.parts.library.list()
      const { id, path, description } = this.parts.library.find(model)
      const { shape, feasible, parameters } = description
      const [catalogue, holdsGguf] = await Promise.all([askCatalogue(this.parts), this.#holdsGguf(path, bestMethod({ feasible }, true).id)])
      const siblings = smallerSiblings({ description }, library).map((sibling) => sibling.id)
      const ofSample = isOfSample(id, library)
      const sizes = { contextLength: shape.contextLength, parameters: parameters.total, hidden: shape.hidden }
      return presetsFor({ id, ...sizes, ofSample, holdsGguf, siblings, feasible }, catalogue)
    },
    'experiments.preview': ({ grid }, signal) => this.#preview(grid, signal),
    'experiments.sizes': ({ model }) => this.#sizes(model),
    'experiments.quick': (request, signal) => this.#quick(request, signal),
    'experiments.create': (request) => this.#create(request),
    'experiments.grid': ({ id }) => this.#gridOf(id),
    'experiments.update': ({ id, notesBefore, ...patch }) => {
      this.history.transaction(() => {
        checkNotes(this.#find(id), { ...patch, notesBefore })
        this.history.experiments.patch(id, patch)
      })
      this.#tellRuns(id)
      return this.#tell(id)
    },
    'experiments.archive': ({ id }) => ({ ...this.parts.bulk.setArchived(this.#find(id).id, true), experiment: this.#tell(id) }),
    'experiments.unarchive': ({ id }) => ({ ...this.parts.bulk.setArchived(this.#find(id).id, false), experiment: this.#tell(id) }),
    'experiments.enqueue': ({ id }) => {
      const drafts = this.history.runs.ofExperiment(this.#find(id).id).filter(({ status }) => status === 'draft')
      this.parts.queue.act(
        'enqueue',
        drafts.map((run) => run.id),
      )
      return this.#tell(id)
    },
    'experiments.remove': ({ id }) => {
      const { archived, name } = this.#find(id)
      if (!archived) throw new EspalierError('conflict', `"${name}" is not archived. Archive it first.`)
      const removed = this.parts.removal.remove(this.history.runs.ofExperiment(id))
      this.history.experiments.remove(id)
      this.parts.emit({ name: 'experiment removed', data: { id } })
      return removed
    },
    'experiments.export': ({ id, paths }) => {
      const fileName = `${safeFileName(this.#find(id).name)}.espalier.json`
      return { fileName, type: 'application/json', content: exportExperiment(this.parts, id, paths) }
    },
    'experiments.import': ({ content }) => {
      const { experiment, runs } = importExperiment(this.parts, content)
      this.#tellRuns(experiment)
      return { experiment: this.#tell(experiment), runs }
    },
  }

  #find(id: string): ExperimentEntry {
    return this.history.experiments.get(id)
  }

  /** Reports the current entry to listeners, and returns it. */
  #tell(id: string): ExperimentEntry {
    const experiment = this.#find(id)
    this.parts.emit({ name: 'experiment changed', data: { experiment } })
    return experiment
  }

  #tellRuns(experiment: string): void {
    this.parts.queue.tellRuns(this.history.runs.ofExperiment(experiment).map(({ number }) => number))
  }

  /** Whether a GGUF file can hold the model after pruning by a method. False if the method cannot remove anything. */
  async #holdsGguf(model: string, method: string): Promise<boolean> {
    const example = { plan: null, method, amount: { sparsity: 0.5 }, formats: ['gguf'], ggufTypes: ['F16'] }
    const answer = await askDesk(this.parts.desk, { kind: 'outline save', model, ...example }).catch(() => [])
    return z
      .array(formatOutline)
      .parse(answer)
      .some(({ problem }) => problem === null)
  }

  /** The sizes of a model's files, unpruned and pruned. Throws if a GGUF file cannot hold it after pruning. */
  async #sizes(id: string): Promise<QuickSizes> {
    const { path, bytes, name, description } = this.parts.library.find(id)
    const { feasible } = description
    const method = bestMethod({ feasible }, true).id
    const ask = async (asked: { method: string; amount?: Amount; ggufTypes: GgufType[] }) =>
      z
        .array(formatOutline)
        .parse(await askDesk(this.parts.desk, { kind: 'outline save', model: path, plan: null, formats: ['gguf'], ...asked }))
    const most = feasible.find((range) => range.method === method)?.maximum ?? mostRemoved
    if (most === 0) throw new EspalierError('infeasible', `No method can prune "${name}".`)
    const [dense, [pruned]] = await Promise.all([
      ask({ method: denseMethod, ggufTypes: denseTypes }),
      ask({ method, amount: { sparsity: Math.min(most, mostRemoved) }, ggufTypes: [smallestType] }),
    ])
    const files = joinSizes(dense)
    const least = pruned?.least?.bytes ?? pruned?.bytes ?? null
    if (files.length === 0 || least === null)
      throw new EspalierError('infeasible', `"${name}" cannot be written as a GGUF file after pruning. ${pruned?.problem ?? ''}`.trim())
    return { today: bytes, files, least, method }
  }

  /** Returns the most thorough grid that answers in time, else the least thorough one: also while this machine was not timed. */
  async #quick({ model: id, text, target }: Checked<'experiments.quick'>, signal?: AbortSignal): Promise<QuickAnswer> {
    const sizes = await this.#sizes(id)
    const { name, description } = this.parts.library.find(id)
    if ('bytes' in target) checkSize(target.bytes, sizes)
    const mixes = 'bytes' in target && (await this.#mixesTypes(id, target.bytes, signal))
    const question = { model: { id, name, contextLength: description.shape.contextLength }, text, target, sizes, mixes }
    const grids = quickGrids(question)
    const looks = new Map<number, Promise<QuickAnswer>>()
    const lookAt = (at: number) => {
      const grid = grids[at] as Grid
      const look = looks.get(at) ?? this.#preview(grid, signal).then((preview) => ({ grid, name: quickName(question), preview }))
      looks.set(at, look)
      return look
    }
    let [first, last] = [0, grids.length - 1]
    // A preview takes seconds, so few are made.
    while (first < last) {
      const at = Math.floor((first + last) / 2)
      const found = await lookAt(at)
      const { seconds, problems } = found.preview
      // With a problem of the text, another look is no better.
      if (problems.length > 0) return found
      // While times are unknown, only the smallest look is sure to be short.
      if (seconds === null) first = last
      else if (seconds.likely <= quickSeconds) last = at
      else first = at + 1
    }
    return lookAt(first)
  }

  /** Whether a file of this model can have mixed types of so many bytes. */
  async #mixesTypes(model: string, bytes: number, signal: AbortSignal | undefined): Promise<boolean> {
    const request: PlannedRun['request'] = {
      ...{ method: denseMethod, amount: { sparsity: 0 }, options: {}, seed: 0, measures: [], backend: 'auto' },
      weights: `MIXED:${bytes}`,
    }
    const found = await previewRuns(this.parts, [{ model, request }], { signal })
    return found.every(({ problems }) => problems.length === 0)
  }

  async #preview(grid: Grid, signal: AbortSignal | undefined): Promise<GridPreview> {
    const { estimates } = this.parts
    const planned = combinationsOf(grid)
    const found = await previewRuns(this.parts, planned, { signal })
    const ids = new Set(planned.map(({ model }) => model))
    const models = new Map(await Promise.all([...ids].map(async (id) => [id, await estimates.forModel(id, signal)] as const)))
    const estimated = planned.map(({ model, request }, at) => {
      const preview = found[at] as RequestPreview
      return { ...preview, estimate: (preview.work && models.get(model)?.(request.method, preview.work)) ?? null }
    })
    return previewOf(grid, planned, estimated)
  }

  async #create(request: Checked<'experiments.create'>): Promise<Output<'experiments.create'>> {
    const { name, grid, start, leaveOut, executor, notes = '', tags = [] } = request
    const { possible, leftOut } = await this.#choose(grid, leaveOut, executor)
    const id = newId('exp')
    const planned = possible.flatMap((one) => overSeeds(one, grid.seeds))
    const making = { experiment: id, seeds: grid.seeds.length, executor, start }
    const numbers = writeRuns(this.parts, planned, making, () =>
      this.history.experiments.insert({ id, name, notes, tags, grid, createdAt: Date.now() }),
    )
    return { experiment: this.#tell(id), runs: this.history.runs.entries(numbers), leftOut }
  }

  /** Returns the possible combinations. Impossible ones are skipped if `leaveOut` is set. Throws if there are other problems. */
  async #choose(
    grid: Grid,
    leaveOut: boolean,
    executor: string | null | undefined,
  ): Promise<{ possible: PlannedRun[]; leftOut: string[] }> {
    const planned = combinationsOf(grid)
    const problems = (await previewRuns(this.parts, planned, { executor })).map((found) => found.problems)
    const skipped = problems.map((some) => leaveOut && some.some(({ code }) => code === 'infeasible'))
    refuseProblems(problems.flatMap((some, at) => (skipped[at] ? [] : some)))
    const possible = planned.filter((_, at) => !skipped[at])
    const leftOut = [...new Set(problems.flatMap((some, at) => (skipped[at] ? some.map(({ message }) => message) : [])))]
    if (leftOut.length > 0 && possible.every(({ request }) => request.method === denseMethod))
      throw new EspalierError('infeasible', `None of the amounts can be reached on this model. ${leftOut[0]}`)
    return { possible, leftOut }
  }

  /** Returns the grid of an experiment, or the settings of a run as a grid. */
  #gridOf(id: string): Grid {
    const run = this.history.runs.find(id)
    if (run) return gridOfRun(run.model, this.history.documents.request(run.number))
    const grid = this.history.experiments.grid(this.#find(id).id)
    if (!grid) throw new EspalierError('not-found', 'This experiment was not made from a grid. Use the grid of one of its runs.')
    return grid
  }
}

/** The preview of a combination, with its estimate. */
type FoundPreview = RequestPreview & { readonly estimate: Omit<RunEstimate, 'run'> | null }

/** Returns the preview of a grid. `found` has a preview for each entry of `planned`. */
function previewOf(grid: Grid, planned: PlannedRun[], found: FoundPreview[]): GridPreview {
  const pruning = planned
    .map((one, at) => ({ ...one, preview: found[at] as FoundPreview }))
    .filter(({ request }) => request.method !== denseMethod || request.weights !== undefined)
  const combinations = pruning.map((one) => combinationOf(one, grid))
  const memory = combinations.flatMap(({ memoryBytes }) => memoryBytes ?? [])
  const indices = new Map(pruning.map(({ preview }, at) => [preview, at]))
  return {
    combinations,
    runs: grid.models.length + (grid.siblings?.length ?? 0) + combinations.reduce((sum, { runs }) => sum + runs, 0),
    ...timeOf(grid, planned, found),
    memoryBytes: memory.length > 0 ? Math.max(...memory) : null,
    problems: distinct(
      found.flatMap((preview, at) => preview.problems.map((problem) => attribute(problem, grid, planned[at], indices.get(preview)))),
    ),
    notes: [...new Set(found.flatMap(({ notes }) => notes))],
  }
}

function combinationOf({ model, request, preview }: PlannedRun & { preview: FoundPreview }, grid: Grid): CombinationPreview {
  const { problems, estimate, notes: _notes, fetches: _fetches, work: _work, ...foreseen } = preview
  const infeasible = problems.find(({ code }) => code === 'infeasible')
  const { method, amount, repair, recover } = request
  return {
    ...foreseen,
    name: runName(request, 1),
    model,
    method,
    amount,
    repair: repair?.kind ?? 'none',
    recovery: recover?.amount ?? 'none',
    runs: overSeeds({ model, request }, grid.seeds).length,
    feasible: !infeasible,
    problem: infeasible?.message ?? null,
    seconds: estimate?.seconds ?? null,
  }
}

/** Sums the time of all runs of a grid. Steps that runs of one model and seed share count once. */
function timeOf(grid: Grid, planned: readonly PlannedRun[], found: readonly FoundPreview[]): Pick<GridPreview, 'seconds' | 'basis'> {
  if (planned.length === 0 || found.some(({ estimate }) => estimate === null)) return { seconds: null, basis: null }
  const done = new Map<string, number>()
  const runs = planned.flatMap((one, at) => {
    const estimate = found[at]?.estimate as Omit<RunEstimate, 'run'>
    return overSeeds(one, grid.seeds).map(({ model, request }) => withoutShared(estimate, `${model} ${request.seed}`, done))
  })
  const basis = runs.every((run) => run.basis === 'runs') ? 'runs' : 'machine'
  return { seconds: addRanges(runs.map(({ seconds }) => seconds)), basis }
}

/** Renames the field of a problem, from the field of one request to the field of the grid. */
function attribute(problem: Problem, grid: Grid, planned: PlannedRun | undefined, combination: number | undefined): Problem {
  if (problem.code === 'infeasible') return { ...problem, field: `combinations.${combination ?? 0}` }
  if (!/^(options|method)/.test(problem.field)) return problem
  const at = grid.methods.findIndex(({ method, options }) => method === planned?.request.method && options === planned.request.options)
  return { ...problem, field: `methods.${at}.${problem.field}` }
}

function distinct(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((problem) => [`${problem.field} ${problem.message}`, problem])).values()]
}
