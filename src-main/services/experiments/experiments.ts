import { EspalierError } from '#contract/errors.ts'
import type { ExperimentEntry, Grid } from '#contract/experiments/experiments.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import type { RequestPreview } from '#contract/runs/preflight.ts'
import { denseMethod } from '#contract/titles.ts'
import { newId } from '#db/ids.ts'
import type { Context, Service } from '../context.ts'
import { safeFileName } from '../models/folders.ts'
import type { Library } from '../models/library.ts'
import type { BulkActions } from '../runs/bulk-actions.ts'
import { writeRuns } from '../runs/make-runs.ts'
import { preflight, refuseProblems } from '../runs/preflight.ts'
import type { RunRemoval } from '../runs/run-removal.ts'
import type { Estimates } from './estimates.ts'
import { exportExperiment, importExperiment } from './experiment-file.ts'
import { combinationsOf, gridOfRun, overSeeds, type PlannedRun } from './grid.ts'
import { previewOf } from './grid-preview.ts'
import { presetsFor } from './presets.ts'

export interface ExperimentParts {
  library: Library
  catalogue(): Promise<Catalogue>
  removal: RunRemoval
  estimates: Estimates
  bulk: BulkActions
}

export function experimentsService(
  context: Context,
  { library, catalogue, removal, estimates, bulk }: ExperimentParts,
): Service<'experiments'> {
  const { history, queue, emit } = context

  function find(id: string): ExperimentEntry {
    const experiment = history.experiments.find(id)
    if (!experiment) throw new EspalierError('not-found', `There is no experiment ${id}.`)
    return experiment
  }

  function told(id: string): ExperimentEntry {
    const experiment = find(id)
    emit({ name: 'experiment changed', data: { experiment } })
    return experiment
  }

  const plan = async (grid: Grid) => combinationsOf(grid, grid.repairs ? [] : (await catalogue()).methods)

  /** The possible combinations. Impossible ones are refused with all other problems, or skipped if `leaveOut` is set. */
  async function choose(grid: Grid, leaveOut: boolean): Promise<{ possible: PlannedRun[]; leftOut: string[] }> {
    const planned = await plan(grid)
    const problems = (await preflight(context, library, planned)).map((found) => found.problems)
    const beyond = problems.map((some) => leaveOut && some.some(({ code }) => code === 'infeasible'))
    refuseProblems(problems.flatMap((some, at) => (beyond[at] ? [] : some)))
    const possible = planned.filter((_, at) => !beyond[at])
    const leftOut = [...new Set(problems.flatMap((some, at) => (beyond[at] ? some.map(({ message }) => message) : [])))]
    if (leftOut.length > 0 && possible.every(({ request }) => request.method === denseMethod))
      throw new EspalierError('infeasible', `None of the amounts can be reached on this model. ${leftOut[0]}`)
    return { possible, leftOut }
  }

  return {
    'experiments.list': ({ archived }) => history.experiments.list(archived),
    'experiments.get': ({ id }) => find(id),
    async 'experiments.presets'({ model }) {
      const { id, description } = library.find(model)
      return presetsFor({ id, contextLength: description.shape.contextLength }, await catalogue())
    },
    async 'experiments.preview'({ grid }, signal) {
      const planned = await plan(grid)
      const found = await preflight(context, library, planned, signal)
      const models = new Map(await Promise.all(grid.models.map(async (id) => [id, await estimates.forModel(id, signal)] as const)))
      const estimated = planned.map(({ model, request }, at) => {
        const preview = found[at] as RequestPreview
        return { ...preview, estimate: (preview.work && models.get(model)?.(request.method, preview.work)) ?? null }
      })
      return previewOf(grid, planned, estimated)
    },
    async 'experiments.create'({ name, grid, start, leaveOut, executor, notes = '', tags = [] }) {
      const { possible, leftOut } = await choose(grid, leaveOut)
      const id = newId('exp')
      const planned = possible.flatMap((one) => overSeeds(one, grid.seeds))
      const numbers = writeRuns(context, library, planned, { experiment: id, seeds: grid.seeds.length, executor, start }, () =>
        history.experiments.insert({ id, name, notes, tags, grid, createdAt: Date.now() }),
      )
      return { experiment: told(id), runs: history.runs.entries(numbers), leftOut }
    },
    'experiments.grid'({ id }) {
      const run = history.runs.find(id)
      if (run) return gridOfRun(run.model, history.documents.request(run.number))
      find(id)
      const grid = history.experiments.grid(id)
      if (!grid) throw new EspalierError('not-found', 'This experiment was not made from a grid.')
      return grid
    },
    'experiments.update'({ id, ...patch }) {
      find(id)
      history.experiments.patch(id, patch)
      queue.tellRuns(history.runs.ofExperiment(id).map(({ number }) => number))
      return told(id)
    },
    'experiments.archive': ({ id }) => ({ ...bulk.setArchived(find(id).id, true), experiment: told(id) }),
    'experiments.unarchive': ({ id }) => ({ ...bulk.setArchived(find(id).id, false), experiment: told(id) }),
    'experiments.enqueue'({ id }) {
      find(id)
      const drafts = history.runs.ofExperiment(id).filter(({ status }) => status === 'draft')
      if (drafts.length > 0)
        queue.act(
          'enqueue',
          drafts.map((run) => run.id),
        )
      return told(id)
    },
    'experiments.remove'({ id }) {
      const { archived, name } = find(id)
      if (!archived) throw new EspalierError('conflict', `"${name}" is not archived. Archive it first.`)
      const removed = removal.remove(history.runs.ofExperiment(id))
      history.experiments.remove(id)
      emit({ name: 'experiment removed', data: { id } })
      return removed
    },
    'experiments.export'({ id }) {
      const { name } = find(id)
      return { fileName: `${safeFileName(name)}.espalier.json`, type: 'application/json', content: exportExperiment(context, id) }
    },
    'experiments.import'({ content }) {
      const { experiment, runs } = importExperiment(context, content)
      queue.tellRuns(history.runs.ofExperiment(experiment).map(({ number }) => number))
      return { experiment: told(experiment), runs }
    },
  }
}
