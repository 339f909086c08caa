import type { Input } from '#contract/api.ts'
import { type ErrorMessage, toErrorMessage } from '#contract/errors.ts'
import type { ExperimentEntry } from '#contract/experiments/experiments.ts'
import type { BulkInput } from '#contract/runs/bulk.ts'
import type { Removal, RunColumn, RunEntry, RunGroup, RunPage, SavedView } from '#contract/runs/runs.ts'
import { call, on, onMissed } from '../../api/api.ts'
import { formatPlural } from '../../lib/format.ts'
import { keepLast, lastKept } from '../../lib/last-kept.ts'
import { attempt, notify, notifyProblem } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { saveText } from '../../lib/save-file.ts'
import { coalesce, stopAll } from '../../lib/schedule.ts'
import { bulkOutcome, undoOutcome } from './bulk/bulk-text.ts'
import { ChosenRuns } from './bulk/chosen-runs.svelte.ts'
import { type TableColumn, tableColumns } from './columns.ts'
import { clampWidth, defaultColumns, type HistoryView, moveField, pagesOf, readView, toFilter, writeView } from './runs-query.ts'

const pageSize = 100
/** The largest number of rows that one call may request. */
const rowLimit = 1000

/** The history: a window over rows that stay in the service, the selection, and the saved views. */
export class HistoryState {
  total = $state<number | null>(null)
  /** How many of them are analyses, which are no runs of their own. */
  analyses = $state(0)
  counts = $state.raw<RunPage['counts']>({})
  archived = $state.raw(0)
  rows = $state.raw<(RunEntry | undefined)[]>([])
  columns = $state.raw<RunColumn[]>([])
  readonly views = new SavedViews()
  experiment = $state.raw<ExperimentEntry | null>(null)
  problem = $state.raw<ErrorMessage | null>(null)
  readonly chosen = new ChosenRuns(() => toFilter(this.view))
  #window = { from: 0, to: pageSize }
  #pending = new Set<number>()
  #turn = 0

  readonly view: HistoryView = $derived(readView(router.query))
  readonly shownColumns: string[] = $derived(this.view.columns ?? defaultColumns(this.columns))

  readonly tableColumns: TableColumn[] = $derived(tableColumns(this.shownColumns, this.columns, this.view))
  groups = $state.raw<RunGroup[]>([])

  readonly #refreshSoon = coalesce(() => {
    this.refresh()
    void this.#loadColumns()
  }, 700)

  follow(): () => void {
    void this.views.load()
    return stopAll(
      on('run changed', ({ run }) => this.#take(run)),
      on('runs removed', ({ ids }) => {
        this.chosen.removed(ids)
        this.#refreshSoon()
      }),
      onMissed(() => {
        void this.views.load()
        void this.#loadColumns()
        void this.#loadExperiment()
        this.refresh()
      }),
    )
  }

  /** Loads everything again. Called when the filter, the sorting or the columns change. */
  reload(): void {
    this.#turn += 1
    this.#pending.clear()
    this.chosen.filterChanged()
    void this.#loadPages(pagesOf(this.#window, pageSize), true)
    void this.#loadColumns()
    void this.#loadExperiment()
    void this.#loadGroups()
  }

  /** Reloads the rows in view and the groups. */
  refresh(): void {
    this.#turn += 1
    this.#pending.clear()
    this.chosen.changed()
    void this.#loadPages(pagesOf(this.#window, pageSize), true)
    void this.#loadGroups()
  }

  /** Loads missing rows. Called when rows come into view. */
  show(from: number, to: number): void {
    this.#window = { from, to }
    const missing = pagesOf({ from, to }, pageSize).filter((page) => !this.#pending.has(page) && this.#lacks(page, from, to))
    if (missing.length > 0) void this.#loadPages(missing, false)
  }

  change(changes: Partial<HistoryView>): void {
    const view = { ...this.view, ...changes }
    router.replaceQuery(writeView(view))
    const { columns, order, widths } = writeView(view)
    keepLast('runs', { columns, order, widths })
  }

  /** Restores the columns as they were left, unless the address names others. */
  recall(): void {
    const { columns, order, widths } = router.query
    if (columns === undefined && !order && !widths) router.replaceQuery({ ...lastKept('runs'), ...router.query })
  }

  moveColumn(field: string, before: string | null): void {
    this.change({
      order: moveField(
        this.tableColumns.map((column) => column.field),
        field,
        before,
      ),
    })
  }

  /** Moves a column one place to the left or right. */
  nudgeColumn(field: string, step: -1 | 1): void {
    const fields = this.tableColumns.map((column) => column.field)
    const at = fields.indexOf(field)
    const before = step < 0 ? fields[at - 1] : fields[at + 2]
    if (step < 0 && at === 0) return
    this.moveColumn(field, before ?? null)
  }

  resizeColumn(field: string, rem: number): void {
    this.change({ widths: { ...this.view.widths, [field]: clampWidth(rem) } })
  }

  /** Opens a group at one of its levels: its values down to that level become filters, and deeper levels stay groups. */
  openGroup({ keys }: RunGroup, level: number): void {
    const conditions = keys.slice(0, level + 1).map(({ condition }) => condition)
    this.change({ groups: this.view.groups.slice(level + 1), conditions: [...this.view.conditions, ...conditions] })
  }

  /** Adds a field as the innermost group, or removes it. */
  toggleGroup(field: string): void {
    const { groups } = this.view
    this.change({ groups: groups.includes(field) ? groups.filter((other) => other !== field) : [...groups, field] })
  }

  sortBy(field: string): void {
    const { sort } = this.view
    const direction = sort.field === field && sort.direction === 'ascending' ? 'descending' : 'ascending'
    this.change({ sort: { field, direction } })
  }

  async saveCsv(): Promise<void> {
    await attempt(async () => {
      saveText(await call('runs.csv', { ...toFilter(this.view), sort: [this.view.sort] }))
    })
  }

  /** Toggles a row. With an anchor, selects all rows from the anchor to this one, including those that were never loaded. */
  async choose(at: number, anchor: number | null): Promise<void> {
    const run = this.rows[at]
    if (anchor === null) {
      if (run) this.chosen.toggle(run)
      return
    }
    await attempt(async () => this.chosen.add(await this.#idsBetween(Math.min(at, anchor), Math.max(at, anchor))))
  }

  async #idsBetween(first: number, last: number): Promise<string[]> {
    const known = this.rows.slice(first, last + 1).flatMap((row) => row?.id ?? [])
    if (known.length === last + 1 - first) return known
    const ids: string[] = []
    for (let offset = first; offset <= last; offset += rowLimit) {
      const limit = Math.min(rowLimit, last + 1 - offset)
      const { rows } = await call('runs.query', { ...toFilter(this.view), sort: [this.view.sort], columns: [], limit, offset })
      ids.push(...rows.map(({ id }) => id))
    }
    return ids
  }

  /** Applies an action to the selection, and reports the number of changed runs with an undo. */
  async apply(action: BulkInput): Promise<void> {
    const { selection } = this.chosen
    if (!selection) return
    const result = await call('runs.act', { selection, action })
    if (action.kind === 'archive' || action.kind === 'unarchive') this.chosen.clear()
    this.refresh()
    const { undo } = result
    notify(bulkOutcome(action.kind, result), undo === null ? {} : { undo: () => void this.#undo(undo) })
  }

  async act(action: BulkInput): Promise<void> {
    await attempt(() => this.apply(action))
  }

  async #undo(undo: string): Promise<void> {
    await attempt(async () => {
      notify(undoOutcome(await call('runs.undo', { undo })))
      this.refresh()
    })
  }

  async update(ids: string[], changes: Omit<Input<'runs.update'>, 'ids'>): Promise<void> {
    await attempt(async () => {
      const { runs } = await call('runs.update', { ids, ...changes })
      for (const run of runs) this.#take(run)
    })
  }

  /** Says what deleting the chosen runs would delete with them. */
  async removal(): Promise<Removal | null> {
    const { selection } = this.chosen
    return selection && call('runs.removal', selection)
  }

  async remove(): Promise<void> {
    const { selection } = this.chosen
    if (!selection) return
    await attempt(async () => {
      const { runs } = await call('runs.remove', selection)
      this.chosen.clear()
      this.refresh()
      notify(`${formatPlural(runs, 'run')} deleted`)
    })
  }

  async #loadColumns(): Promise<void> {
    const everything = toFilter({ ...this.view, search: '', conditions: [], statuses: [] })
    this.columns = await call('runs.columns', everything).catch(() => this.columns)
  }

  async #loadGroups(): Promise<void> {
    const { groups: by } = this.view
    const turn = this.#turn
    const groups = by.length > 0 ? await call('runs.groups', { ...toFilter(this.view), by }).catch(() => this.groups) : []
    if (turn === this.#turn) this.groups = groups
  }

  async #loadExperiment(): Promise<void> {
    const { experiment } = this.view
    if (!experiment) this.experiment = null
    else if (this.experiment?.id !== experiment) this.experiment = await call('experiments.get', { id: experiment }).catch(() => null)
  }

  async #loadPages(pages: number[], fresh: boolean): Promise<void> {
    const turn = this.#turn
    for (const page of pages) this.#pending.add(page)
    try {
      const first = pages[0] ?? 0
      const limit = Math.min(1000, (pages.length || 1) * pageSize)
      const answer = await call('runs.query', { ...toFilter(this.view), sort: [this.view.sort], offset: first * pageSize, limit })
      if (turn !== this.#turn) return
      const rows =
        fresh && answer.total !== this.total ? new Array<RunEntry | undefined>(answer.total) : fresh ? this.#forget() : this.rows.slice()
      for (const [at, row] of answer.rows.entries()) rows[first * pageSize + at] = row
      this.rows = rows
      this.total = answer.total
      this.analyses = answer.analyses
      this.counts = answer.counts
      this.archived = answer.archived
      this.problem = null
    } catch (thrown) {
      if (turn === this.#turn) this.problem = toErrorMessage(thrown)
    } finally {
      for (const page of pages) this.#pending.delete(page)
    }
  }

  /** Returns an empty list of rows. Rows out of view may have changed, so they are loaded again when they come back. */
  #forget(): (RunEntry | undefined)[] {
    return new Array<RunEntry | undefined>(this.total ?? 0)
  }

  #lacks(page: number, from: number, to: number): boolean {
    const end = Math.min(to, (page + 1) * pageSize, this.total ?? 0)
    for (let at = Math.max(from, page * pageSize); at < end; at += 1) if (!this.rows[at]) return true
    return false
  }

  #take(run: RunEntry): void {
    const at = this.rows.findIndex((row) => row?.id === run.id)
    const before = this.rows[at]
    if (before) this.rows = this.rows.with(at, run)
    if (!before || before.status !== run.status || before.archived !== run.archived) this.#refreshSoon()
  }
}

/** The saved views of the history: queries of its address under names. */
class SavedViews {
  /** Null until they are loaded. */
  list = $state.raw<SavedView[] | null>(null)

  async load(): Promise<void> {
    await call('views.list', {}).then(
      (views) => (this.list = views),
      () => undefined,
    )
  }

  async save(name: string, view: HistoryView): Promise<void> {
    await this.#store(name, { ...writeView(view) })
    notify(`View “${name}” saved`)
  }

  async remove({ id, name, state }: SavedView): Promise<void> {
    await call('views.remove', { id })
    await this.load()
    notify(`View “${name}” removed`, { undo: () => void this.#store(name, state).catch(notifyProblem) })
  }

  open({ state }: SavedView): void {
    router.replaceQuery(
      Object.fromEntries(Object.entries(state).flatMap(([key, value]) => (typeof value === 'string' ? [[key, value]] : []))),
    )
  }

  async #store(name: string, state: SavedView['state']): Promise<void> {
    await call('views.save', { name, state })
    await this.load()
  }
}
