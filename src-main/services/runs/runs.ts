import type { Checked, Output } from '#contract/api.ts'
import { bitsMeasure, comparableSets, isPerToken } from '#contract/comparison/comparable.ts'
import { mostCompared } from '#contract/comparison/comparison-calls.ts'
import { type MeasureColumn, measureColumns, measureId, measureOf } from '#contract/comparison/measure-columns.ts'
import { meanAndSpread } from '#contract/comparison/statistics.ts'
import type { Table, TableCell } from '#contract/comparison/table.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TextFile } from '#contract/identifiers.ts'
import type { RunSelection } from '#contract/runs/bulk.ts'
import { isLowerBetter } from '#contract/runs/measures.ts'
import type { QueueState } from '#contract/runs/queue.ts'
import { type RunField, runFields, valueOfField } from '#contract/runs/run-fields.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { canAct } from '#contract/runs/run-status.ts'
import type { ParameterValue, RunDescription, RunEntry, RunFilter, RunGroup, RunQuery } from '#contract/runs/runs.ts'
import { titleOfMethod } from '#contract/titles.ts'
import { version } from '#contract/version.ts'
import { newId } from '#db/ids.ts'
import type { StoredModel } from '#db/models.ts'
import { runColumns } from '#db/runs/run-columns.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { QueueAction, RunQueue } from '#jobs/run-queue.ts'
import { inspectionName, inspectionRun, sharedExperiment, tokensOf } from '../comparison/inspections.ts'
import { renderSvg } from '../comparison/plot-svg.ts'
import { tableFile } from '../comparison/table-text.ts'
import type { Calls, Context } from '../context.ts'
import type { PlannedRun } from '../experiments/grid.ts'
import { hidePlaces } from '../hide-places.ts'
import { Service } from '../service.ts'
import { makeRuns, type RunMaking } from './make-runs.ts'
import { previewRuns } from './preview-runs.ts'
import { runDetail } from './run-detail.ts'

/** How long screens offer to undo an archiving. Archived runs can be restored at any time. */
const undoMilliseconds = 30_000
const mostCsvRows = 1_000_000
const newestFirst: RunQuery['sort'] = [{ field: 'createdAt', direction: 'descending' }]

export class RunsService extends Service {
  readonly calls: Omit<Calls<'runs'>, 'runs.save' | 'runs.saved' | 'runs.checkSave' | 'runs.formats'> = {
    'runs.query': (query) => this.history.queries.page(query),
    'runs.columns': (filter) => runColumns(this.history.db, filter),
    'runs.get': ({ id }) => runDetail(this.parts, this.#run(id)),
    'runs.events': ({ id, after, limit, types }) => {
      const events = this.history.events.after(this.#run(id).number, after, limit + 1, types)
      return { events: events.slice(0, limit), more: events.length > limit }
    },
    'runs.log': ({ id, bytes }) => this.parts.logs.tail(this.#run(id).id, bytes),
    'runs.inspect': ({ inspect, beginToken, name = inspectionName(this.parts, inspect), start }) =>
      this.#make(inspectionRun(this.parts, inspect, beginToken), { name, experiment: sharedExperiment(this.parts, inspect), start }),
    'runs.tokens': ({ id, page }) => tokensOf(this.parts, this.#run(id), page),
    'runs.inspectionsOf': ({ id }) => this.#entries(this.history.runs.inspecting(this.#run(id).id)),
    'runs.create': ({ model, request, name, experiment = null, executor, start }) =>
      this.#make({ model, request }, { name, experiment, executor, start }),
    'runs.clone': (request) => this.#clone(request),
    'runs.estimate': ({ id, changes }, signal) => {
      const row = this.#run(id)
      const request = { ...this.history.documents.request(row.number), ...changes, model: this.parts.library.find(row.model).path }
      return this.parts.estimates.ofClone(row, request as RunRequest, signal)
    },
    'runs.update': (request) => this.#update(request),
    'runs.selected': ({ selection }) => this.parts.bulk.look(selection),
    'runs.act': ({ selection, action }) => this.parts.bulk.act(action, () => this.history.queries.selected(selection)),
    'runs.undo': ({ undo }) => this.parts.bulk.undo(undo),
    'runs.enqueue': ({ ids }) => this.#act('enqueue', ids),
    'runs.pause': ({ ids }) => this.#act('pause', ids),
    'runs.resume': ({ ids }) => this.#act('resume', ids),
    'runs.retry': ({ ids }) => this.#act('retry', ids),
    'runs.cancel': ({ ids }) => this.#act('cancel', ids),
    'runs.archive': ({ ids }) => this.#archive(ids.map(this.#run)),
    'runs.unarchive': ({ ids }) => {
      const rows = ids.map(this.#run)
      this.parts.bulk.act({ kind: 'unarchive' }, () => rows)
      return this.#entries(numbersOf(rows))
    },
    'runs.removal': (selection) => this.parts.removal.measure(this.#chosen(selection)),
    'runs.remove': (selection) => this.parts.removal.remove(this.#chosen(selection)),
    'runs.describe': ({ id, paths }) => describeRun(this.parts, this.#run(id), paths),
    'runs.foresee': ({ description, model = findDescribedModel(this.parts, description).id }) => this.#foresee(description, model),
    'runs.replay': ({ description, model = findDescribedModel(this.parts, description).id, afresh, start }) => {
      const { version, measures = [] } = description
      const request = { ...withoutModel(description.request), reproduces: { measures, version, afresh } }
      return this.#make({ model, request }, { name: description.name, experiment: null, start })
    },
    'runs.studyFile': ({ id, format }) => this.#studyFile(this.#run(id), format),
    'runs.groups': ({ by, ...filter }) => groupRuns(this.history.runs.entries(this.#numbers(filter)), by),
    'runs.csv': ({ sort, columns, paths, ...filter }) => {
      const wanted = columns && new Set(columns)
      const entries = this.history.runs.entries(this.#numbers(filter, sort), { keep: wanted && ((field) => wanted.has(field)) })
      return tableFile(runsTableOf(paths ? entries : hidePlaces(entries)), 'csv', 'runs')
    },
  }

  readonly #run = (id: string): RunRow => this.history.runs.get(id)

  #entries(numbers: readonly number[]): { runs: RunEntry[] } {
    return { runs: this.history.runs.entries(numbers) }
  }

  #numbers(filter: RunFilter, sort = newestFirst): number[] {
    return this.history.queries.numbers({ ...filter, sort }, mostCsvRows, 0)
  }

  /** Returns the runs of a selection. Throws if it consists of ids alone and one of them does not exist. */
  #chosen(selection: RunSelection): RunRow[] {
    return selection.ids && !selection.filter ? selection.ids.map(this.#run) : this.history.queries.selected(selection)
  }

  async #make(planned: PlannedRun, making: RunMaking): Promise<RunEntry> {
    return this.history.runs.entries(await makeRuns(this.parts, [planned], making))[0] as RunEntry
  }

  #clone({ id, changes, start }: Checked<'runs.clone'>): Promise<RunEntry> {
    const row = this.#run(id)
    const { model: _, ...request } = this.history.documents.request(row.number)
    return this.#make(
      { model: row.model, request: { ...request, ...changes } as PlannedRun['request'] },
      { experiment: row.experiment, parent: row.id, executor: row.executor, start },
    )
  }

  async #foresee({ request: described }: RunDescription, id: string): Promise<Output<'runs.foresee'>> {
    const { name, path } = this.parts.library.find(id)
    const request = withoutModel(described)
    const [preview] = await previewRuns(this.parts, [{ model: id, request }])
    const wanted = settingsOf(request)
    const same = this.history.runs.latestDone(id, mostCompared).filter(({ number }) => {
      const { request: own, resolved } = this.history.documents.find(number)
      return settingsOf(withoutModel({ ...own, options: { ...own.options, ...resolved } })) === wanted
    })
    return { model: { id, name, path }, same: same.map((run) => ({ id: run.id, name: run.name })), problems: preview?.problems ?? [] }
  }

  #update({ ids, name, ...changes }: Checked<'runs.update'>): { runs: RunEntry[] } {
    const rows = ids.map(this.#run)
    this.parts.bulk.act({ kind: 'mark', ...changes }, () => {
      if (name !== undefined) for (const { number } of rows) this.history.runs.patch(number, { name })
      return rows
    })
    return this.#entries(numbersOf(rows))
  }

  #act(action: QueueAction, ids: readonly string[]): { runs: RunEntry[] } {
    return this.#entries(this.parts.queue.act(action, ids))
  }

  #archive(rows: readonly RunRow[]): { undoUntil: number; undo: string | null } {
    const busy = rows.find(({ status }) => !canAct('archive', status))
    if (busy) throw new EspalierError('conflict', `"${busy.name}" is ${busy.status}. Cancel it first.`)
    const { undo } = this.parts.bulk.act({ kind: 'archive' }, () => rows)
    return { undoUntil: Date.now() + undoMilliseconds, undo }
  }

  async #studyFile({ name, method, number }: RunRow, format: Checked<'runs.studyFile'>['format']): Promise<TextFile> {
    const { study } = this.history.documents.find(number)
    if (!study) throw new EspalierError('conflict', `"${name}" has no table or plot. Choose an ablation that is done.`)
    if (format !== 'svg') return tableFile(study.table, format, method)
    return { fileName: `${method}.svg`, type: 'image/svg+xml', content: await renderSvg(study.plot) }
  }
}

const numbersOf = (rows: readonly RunRow[]): number[] => rows.map(({ number }) => number)

/** The columns that every run has: label, whether it is numeric, and the value. */
const fixed: readonly [string, boolean, (run: RunEntry) => TableCell['value']][] = [
  ['id', false, ({ id }) => id],
  ['name', false, ({ name }) => name],
  ['status', false, ({ status }) => status],
  ['experiment', false, ({ experiment }) => experiment?.name ?? null],
  ['model', false, ({ model }) => model.name],
  ['method', false, ({ method }) => method],
  ['seed', true, ({ seed }) => seed],
  ['nominal', true, ({ nominal }) => nominal],
  ['reached', true, ({ reached }) => reached],
  ['seconds', true, ({ seconds }) => seconds],
  ['created', false, ({ createdAt }) => new Date(createdAt).toISOString()],
  ['tags', false, ({ tags }) => tags.join('; ')],
]

/** Returns rows of the history as a table: fixed columns, and then every parameter and measure that occurs. */
function runsTableOf(runs: readonly RunEntry[]): Table {
  const parameters = [...new Set(runs.flatMap((run) => Object.keys(run.parameters)))].sort()
  const measures = [...new Map(runs.flatMap((run) => run.measures.map((measure) => [measureId(measure), measure] as const)))]
  return {
    columns: [
      ...fixed.map(([label, numeric]) => ({ label, numeric })),
      ...parameters.map((label) => ({ label, numeric: false })),
      ...measures.map(([id, { name, unit }]) => ({
        label: unit ? `${id} [${unit}]` : id,
        numeric: true,
        better: isLowerBetter(name) ? ('lower' as const) : ('higher' as const),
      })),
    ],
    rows: runs.map((run) => {
      const values = new Map(run.measures.map((measure) => [measureId(measure), measure.value]))
      return [
        ...fixed.map(([, , read]) => read(run)),
        ...parameters.map((name) => run.parameters[name] ?? null),
        ...measures.map(([id]) => values.get(id) ?? null),
      ].map((value) => ({ value }))
    }),
  }
}

/** A request for a model of the library, and no reproduction of another description. */
function withoutModel({ model: _, reproduces: __, ...request }: RunRequest): PlannedRun['request'] {
  return request
}

/** A key of everything that determines a run's numbers. */
function settingsOf({ options, ...request }: PlannedRun['request']): string {
  return JSON.stringify([options, request], (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value,
  )
}

/** Describes a run with everything needed to repeat it elsewhere. If `paths` is false, paths of this machine become names. */
function describeRun({ history }: Pick<Context, 'history'>, row: RunRow, paths: boolean): RunDescription {
  const model = history.models.find(row.model)
  const { request, resolved } = history.documents.find(row.number)
  const [entry] = row.status === 'done' ? history.runs.entries([row.number]) : []
  const { reproduces: _, ...own } = request
  const description: RunDescription = {
    format: 'espalier run',
    formatVersion: 1,
    name: row.name,
    model: { name: model?.name ?? row.model, source: model?.source ?? null, description: model?.description ?? null },
    request: { ...own, options: { ...request.options, ...resolved } },
    version,
    ...(entry ? { measures: entry.measures.map(({ name, dataset, value, unit }) => ({ name, dataset, value, unit })) } : {}),
  }
  return paths ? description : hidePlaces(description)
}

/**
 * Finds the library model that a description refers to: by path, else by source, else by name, else any. It must also have the described
 * family, shape and size, if the description has them.
 */
function findDescribedModel({ history }: Pick<Context, 'history'>, { model, request }: RunDescription): StoredModel {
  const library = history.models.list()
  const same = model.description && JSON.stringify([model.description.family, model.description.shape, model.description.parameters])
  const fits = (entry: (typeof library)[number]) =>
    same === null || JSON.stringify([entry.description.family, entry.description.shape, entry.description.parameters]) === same
  const found =
    library.find((entry) => entry.path === request.model && fits(entry)) ??
    library.find((entry) => model.source !== null && entry.source === model.source && fits(entry)) ??
    library.find((entry) => entry.name === model.name && fits(entry)) ??
    (same === null ? undefined : library.find(fits))
  if (found) return found
  throw new EspalierError(
    'not-found',
    `The library has no model like "${model.name}"${model.source ? ` (${model.source})` : ''}. Add it to the library, then try again.`,
  )
}

export class ViewsService extends Service {
  readonly calls: Calls<'views'> = {
    'views.list': () => this.history.views.list(),
    'views.save': ({ name, state }) => this.history.views.save({ id: newId('view'), name, state, createdAt: Date.now() }),
    'views.remove': ({ id }) => {
      if (!this.history.views.remove(id)) throw new EspalierError('not-found', `There is no view ${id}.`)
      return {}
    },
  }
}

export class QueueService extends Service {
  readonly calls: Calls<'queue'> = {
    'queue.get': () => this.parts.queue.state(),
    'queue.estimates': (_, signal) => this.parts.estimates.ofQueue(signal),
    'queue.move': ({ id, before }) => this.#after((queue) => queue.move(id, before)),
    'queue.pause': () => this.#after((queue) => queue.setPaused(true)),
    'queue.seen': () => this.#after((queue) => queue.forgetTakenUp()),
    'queue.resume': ({ retry }) => this.#after((queue) => queue.setPaused(false, retry)),
  }

  #after(act: (queue: RunQueue) => void): QueueState {
    act(this.parts.queue)
    return this.parts.queue.state()
  }
}

/** Groups runs by the first field, each group by the next field, and so on. Large groups come first. Each has the means of its numbers. */
export function groupRuns(runs: readonly RunEntry[], [by, ...deeper]: readonly string[]): RunGroup[] {
  if (by === undefined) return [{ keys: [], runs: runs.length, means: meansOf(runs) }]
  return [...Map.groupBy(runs, (run) => groupOf(run, by))]
    .map(([value, members]) => ({ key: keyOf(by, value), members }))
    .sort((a, b) => b.members.length - a.members.length || a.key.label.localeCompare(b.key.label, 'en', { numeric: true }))
    .flatMap(({ key, members }) => groupRuns(members, deeper).map((group) => ({ ...group, keys: [key, ...group.keys] })))
}

function keyOf(field: string, value: ParameterValue | null): RunGroup['keys'][number] {
  const label = labelOf(field, value)
  if (value === null) return { value, label, condition: { field, is: 'absent' } }
  return { value, label, condition: isText(value) ? { field, is: 'any of', value: [value] } : { field, is: 'equal', value } }
}

const isText = (value: ParameterValue): value is string => typeof value === 'string'

function labelOf(by: string, value: ParameterValue | null): string {
  if (value === null) return 'none'
  if (by === 'method') return titleOfMethod(String(value))
  return String(value)
}

function groupOf(run: RunEntry, by: string): ParameterValue | null {
  const own = valueOfField(run, by)
  if (own !== undefined) return own
  if (by === 'tag') return run.tags[0] ?? null
  if (by.startsWith('parameter:')) return run.parameters[by.slice('parameter:'.length)] ?? null
  return figuresOf(run).find(({ field }) => field === by)?.value ?? null
}

function figuresOf(run: RunEntry): { field: string; unit: string; value: number }[] {
  const own = Object.entries(runFields).flatMap(([field, { unit }]) => (unit ? [{ field, unit, value: run[field as RunField] }] : []))
  const measures = run.measures.map((measure) => ({ field: `measure:${measureId(measure)}`, unit: measure.unit, value: measure.value }))
  return [...own, ...measures].flatMap(({ value, ...rest }) => (typeof value === 'number' ? [{ ...rest, value }] : []))
}

/**
 * Perplexities and bits per byte that cannot all be compared have no mean. The mean of perplexities is geometric, and their deviation is a
 * factor.
 */
function meansOf(members: readonly RunEntry[]): RunGroup['means'] {
  const numbers = Map.groupBy(members.flatMap(figuresOf), ({ field }) => field)
  const texts = measureColumns(members).filter(({ name }) => isPerToken(name) || name === bitsMeasure)
  const columns = new Map(texts.map((column) => [`measure:${column.id}`, column]))
  return [...numbers].map(([field, found]) => {
    const column = columns.get(field)
    const factor = column !== undefined && isPerToken(column.name)
    const own = { field, unit: found[0]?.unit ?? '', runs: found.length, factor }
    if (column && !areComparable(members, column)) return { ...own, mean: null, deviation: null }
    const { mean, spread } = meanAndSpread(found.map(({ value }) => (factor ? Math.log(value) : value)))
    return factor
      ? { ...own, mean: Math.exp(mean), deviation: spread === null ? null : Math.exp(spread) }
      : { ...own, mean, deviation: spread }
  })
}

function areComparable(members: readonly RunEntry[], column: MeasureColumn): boolean {
  const measured = members.filter((run) => measureOf(run, column.id))
  return (
    comparableSets(
      measured.map((run) => ({ runs: [run] })),
      [column],
    ).length < 2
  )
}
