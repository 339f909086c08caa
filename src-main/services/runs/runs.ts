import { EspalierError } from '#contract/errors.ts'
import type { RunSelection } from '#contract/runs/bulk.ts'
import { canAct } from '#contract/runs/run-actions.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { runColumns } from '#db/runs/run-columns.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { inspectionName, inspectionRun, sharedExperiment, tokensOf } from '../comparison/inspections.ts'
import { renderSvg } from '../comparison/plot-svg.ts'
import { tableFile } from '../comparison/table-text.ts'
import type { Context, Service } from '../context.ts'
import type { Estimates } from '../experiments/estimates.ts'
import type { PlannedRun } from '../experiments/grid.ts'
import type { Library } from '../models/library.ts'
import type { BulkActions } from './bulk-actions.ts'
import { makeRuns, type RunMaking } from './make-runs.ts'
import { describeRun, findDescribedModel } from './run-description.ts'
import { runDetail } from './run-detail.ts'
import { groupRuns } from './run-groups.ts'
import type { RunRemoval } from './run-removal.ts'
import { runsTableOf } from './runs-csv.ts'

/** How long undo is offered after archiving. Archived runs can be restored at any time. */
const undoMilliseconds = 30_000
const mostCsvRows = 1_000_000

export function runsService(
  context: Context,
  library: Library,
  removal: RunRemoval,
  estimates: Estimates,
  bulk: BulkActions,
): Omit<Service<'runs'>, 'runs.save' | 'runs.checkSave' | 'runs.formats'> {
  const { history, queue, logs } = context

  function find(id: string): RunRow {
    const row = history.runs.find(id)
    if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
    return row
  }

  const entriesOf = (numbers: readonly number[]): { runs: RunEntry[] } => ({ runs: history.runs.entries(numbers) })

  async function make(planned: PlannedRun, making: RunMaking): Promise<RunEntry> {
    return history.runs.entries(await makeRuns(context, library, [planned], making))[0] as RunEntry
  }

  /** The runs of a selection; ids that are given alone must all be there. */
  const chosen = (selection: RunSelection) =>
    selection.ids && !selection.filter ? selection.ids.map(find) : history.queries.selected(selection)

  return {
    'runs.query': (query) => history.queries.page(query),
    'runs.columns': (filter) => runColumns(history.db, filter),
    'runs.get': ({ id }) => runDetail(context, find(id)),
    'runs.events'({ id, after, limit, types }) {
      const events = history.events.after(find(id).number, after, limit + 1, types)
      return { events: events.slice(0, limit), more: events.length > limit }
    },
    'runs.log': ({ id, bytes }) => logs.tail(find(id).id, bytes),
    'runs.inspect': ({ inspect, name, start }) =>
      make(inspectionRun(context, inspect), {
        name: name ?? inspectionName(context, inspect),
        experiment: sharedExperiment(context, inspect),
        start,
      }),
    'runs.tokens': ({ id, page }) => tokensOf(context, find(id), page),
    'runs.inspectionsOf': ({ id }) => entriesOf(history.runs.inspecting(find(id).id)),
    'runs.create': ({ model, request, name, experiment, executor, start }) =>
      make({ model, request }, { name, experiment: experiment ?? null, executor, start }),
    'runs.clone'({ id, changes, start }) {
      const row = find(id)
      const { model: _, ...request } = history.documents.request(row.number)
      return make(
        { model: row.model, request: { ...request, ...changes } as PlannedRun['request'] },
        { experiment: row.experiment, parent: row.id, executor: row.executor, start },
      )
    },
    'runs.estimate'({ id, changes }, signal) {
      const row = find(id)
      const request = { ...history.documents.request(row.number), ...changes, model: library.find(row.model).path }
      return estimates.ofClone(row, request as RunRequest, signal)
    },
    'runs.update'({ ids, name, notes, addTags, removeTags, starred }) {
      const rows = ids.map(find)
      bulk.act({ kind: 'mark', notes, starred, addTags, removeTags }, () => {
        if (name !== undefined) for (const { number } of rows) history.runs.patch(number, { name })
        return rows
      })
      return entriesOf(rows.map(({ number }) => number))
    },
    'runs.selected': ({ selection }) => bulk.look(selection),
    'runs.act': ({ selection, action }) => bulk.act(action, () => history.queries.selected(selection)),
    'runs.undo': ({ undo }) => bulk.undo(undo),
    'runs.enqueue': ({ ids }) => entriesOf(queue.act('enqueue', ids)),
    'runs.pause': ({ ids }) => entriesOf(queue.act('pause', ids)),
    'runs.resume': ({ ids }) => entriesOf(queue.act('resume', ids)),
    'runs.retry': ({ ids }) => entriesOf(queue.act('retry', ids)),
    'runs.cancel': ({ ids }) => entriesOf(queue.act('cancel', ids)),
    'runs.archive'({ ids }) {
      const rows = ids.map(find)
      const busy = rows.find(({ status }) => !canAct('archive', status))
      if (busy) throw new EspalierError('conflict', `"${busy.name}" is ${busy.status}. Cancel it first.`)
      const { undo } = bulk.act({ kind: 'archive' }, () => rows)
      return { undoUntil: Date.now() + undoMilliseconds, undo }
    },
    'runs.unarchive'({ ids }) {
      const rows = ids.map(find)
      bulk.act({ kind: 'unarchive' }, () => rows)
      return entriesOf(rows.map(({ number }) => number))
    },
    'runs.removal': (selection) => removal.measure(chosen(selection)),
    'runs.remove': (selection) => removal.remove(chosen(selection)),
    'runs.describe': ({ id }) => describeRun(context, find(id)),
    'runs.replay'({ description, model, start }) {
      const target = model ?? findDescribedModel(context, description)
      const { model: _, ...request } = description.request
      return make({ model: target, request }, { name: description.name, experiment: null, start })
    },
    async 'runs.studyFile'({ id, format }) {
      const { name, method, number } = find(id)
      const { study } = history.documents.find(number)
      if (!study) throw new EspalierError('conflict', `"${name}" has no table: it is not an ablation, or it is not done.`)
      if (format !== 'svg') return tableFile(study.table, format, method)
      return { fileName: `${method}.svg`, type: 'image/svg+xml', content: await renderSvg(study.plot) }
    },
    'runs.groups'({ by, ...filter }) {
      const numbers = history.queries.numbers({ ...filter, sort: [{ field: 'createdAt', direction: 'descending' }] }, mostCsvRows, 0)
      return groupRuns(history.runs.entries(numbers), by)
    },
    'runs.csv'({ sort = [{ field: 'createdAt', direction: 'descending' }], columns, ...filter }) {
      const wanted = columns && new Set(columns)
      const numbers = history.queries.numbers({ ...filter, sort }, mostCsvRows, 0)
      return tableFile(runsTableOf(history.runs.entries(numbers, wanted && ((field) => wanted.has(field)))), 'csv', 'runs')
    },
  }
}
