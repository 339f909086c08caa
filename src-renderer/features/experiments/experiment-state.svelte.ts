import type { Input } from '#contract/api.ts'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { groupOverSeeds, type SeedGroup } from '#contract/comparison/seeds.ts'
import { type NamedTable, sparsityTables } from '#contract/comparison/sparsity-table.ts'
import type { ExperimentEntry, Grid } from '#contract/experiments/experiments.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { denseMethod, isInspection, type TableFormat } from '#contract/titles.ts'
import { call, on, onMissed } from '../../api/api.ts'
import { catalogue } from '../../lib/catalogue.svelte.ts'
import { formatPlural } from '../../lib/format.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt, notify, notifyProblem } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { saveText } from '../../lib/save-file.ts'
import { coalesce, stopAll } from '../../lib/schedule.ts'
import { Titles } from '../../lib/titles.svelte.ts'
import { latestBaseline, leadingPerplexity, orderRuns } from './experiments.ts'

/** The playground shows at most this many answers beside each other. */
const mostColumns = 6

/** One experiment: its settings, its runs and its results. */
export class ExperimentState {
  readonly id: string
  experiment = new Loader<ExperimentEntry>()
  runs = $state.raw<RunEntry[]>([])
  /** Whether reports and exports keep the paths of this machine. */
  paths = $state(false)
  grid = $state.raw<Grid | null>(null)
  /** Whether all parts of the page are known, so that nothing moves when one arrives. */
  loaded = $state(false)
  /** The finished runs as verdicts take them. */
  compared = $state.raw<ComparedRun[]>([])
  #comparedIds = ''

  /** The latest baseline. If a model was replaced, this is the baseline of the current model. */
  readonly baseline: RunEntry | null = $derived(latestBaseline(this.runs))
  readonly measured: { name: string; dataset: string } | null = $derived(leadingPerplexity(this.runs))
  readonly sparsities: NamedTable[] = $derived(sparsityTables(this.compared.length > 0 ? this.compared : this.runs, catalogue.optionLabel))
  /** The finished runs, each with all its seeds. */
  readonly results: SeedGroup<RunEntry>[] = $derived(
    groupOverSeeds(this.runs.filter(({ status, method }) => status === 'done' && !isInspection(method))),
  )
  readonly #refreshSoon = coalesce(() => this.refresh(), 500)
  readonly #titles: Titles

  constructor(id: string, loadTitles?: () => Promise<unknown>) {
    this.id = id
    this.#titles = new Titles(loadTitles)
  }

  get titled(): boolean {
    return this.#titles.settled
  }

  follow(): () => void {
    this.refresh()
    return stopAll(
      on('run changed', ({ run }) => run.experiment?.id === this.id && this.#refreshSoon()),
      on('run event', ({ run, recorded: { event } }) => {
        if (event.type === 'progress') this.runs = this.runs.map((row) => (row.id === run ? { ...row, progress: event.progress } : row))
      }),
      on('experiment changed', ({ experiment }) => experiment.id === this.id && this.#refreshSoon()),
      onMissed(() => this.refresh()),
    )
  }

  refresh(): void {
    const entry = this.experiment.load(() => call('experiments.get', { id: this.id }))
    const grid = this.grid ? undefined : this.#loadGrid()
    this.#titles.ask()
    void call('runs.query', { experiment: this.id, limit: 1000, archived: 'all', details: true, sort: [{ field: 'createdAt' }] })
      .then(async ({ rows }) => {
        const compared = this.#compare(rows)
        if (!this.loaded) await Promise.all([compared, entry, grid])
        this.runs = orderRuns(rows)
      }, notifyProblem)
      .finally(() => (this.loaded = true))
  }

  async #loadGrid(): Promise<void> {
    this.grid = await call('experiments.grid', { id: this.id }).catch(() => null)
  }

  /** Loads what a verdict needs of the finished runs, when another one has finished. */
  async #compare(rows: readonly RunEntry[]): Promise<void> {
    const ids = rows.filter(({ status, method }) => status === 'done' && !isInspection(method)).map(({ id }) => id)
    if (ids.length === 0 || ids.join() === this.#comparedIds) return
    this.#comparedIds = ids.join()
    await call('compare.get', { ids: ids.slice(0, 500) }).then(({ runs }) => (this.compared = runs), notifyProblem)
  }

  /** The finished pruned runs of one model, which the playground can compare with the unpruned model. */
  get pruned(): RunEntry[] {
    const done = this.runs.filter(({ status, method, hasPlan }) => status === 'done' && hasPlan && method !== denseMethod)
    return done.filter(({ model }) => model.id === done[0]?.model.id)
  }

  /** Opens the playground with the unpruned model and as many pruned ones as fit beside it. */
  talk(): void {
    const [first] = this.pruned
    if (first)
      router.go(['playground'], {
        model: first.model.id,
        runs: this.pruned
          .slice(0, mostColumns - 1)
          .map(({ id }) => id)
          .join(','),
      })
  }

  async update(changes: Omit<Input<'experiments.update'>, 'id'>): Promise<boolean> {
    const saved = await attempt(() => call('experiments.update', { id: this.id, ...changes }))
    this.refresh()
    return saved
  }

  async enqueueDrafts(): Promise<void> {
    await attempt(async () => {
      await call('experiments.enqueue', { id: this.id })
      this.refresh()
    })
  }

  async export(): Promise<void> {
    await attempt(async () => saveText(await call('experiments.export', { id: this.id, paths: this.paths })))
  }

  async saveTable(measure: string, format: TableFormat): Promise<void> {
    await attempt(async () => saveText(await call('compare.table', { ids: this.#finished, format, by: 'sparsity', measures: [measure] })))
  }

  /** The tests between the results that two runs belong to. */
  async savePair(pair: [string, string], format: TableFormat): Promise<void> {
    await attempt(async () => saveText(await call('compare.table', { ids: this.#finished, format, by: 'pair', pair, overSeeds: true })))
  }

  get #finished(): string[] {
    return this.runs.flatMap(({ id, status, method }) => (status === 'done' && !isInspection(method) ? [id] : [])).slice(0, 500)
  }

  async report(format: 'html' | 'markdown'): Promise<void> {
    await attempt(async () => saveText(await call('reports.make', { experiment: this.id, format, paths: this.paths })))
  }

  /** Archives the experiment with its runs, and offers an undo. */
  async archive(name: string): Promise<void> {
    await attempt(async () => {
      const { undo, waited } = await call('experiments.archive', { id: this.id })
      router.go(['experiments'])
      const left = waited.length > 0 ? `. ${formatPlural(waited.length, 'run')} left the queue.` : ''
      const takeBack = () => void call('runs.undo', { undo: undo ?? '' }).then(() => router.go(['experiments', this.id]), notifyProblem)
      notify(`“${name}” archived${left}`, { about: this.id, ...(undo === null ? {} : { undo: takeBack }) })
    })
  }

  /** Restores the experiment. Runs that had been queued do not start by themselves: the user is asked. */
  async bringBack(name: string): Promise<void> {
    await attempt(async () => {
      const { waited } = await call('experiments.unarchive', { id: this.id })
      this.refresh()
      if (waited.length === 0) return notify(`“${name}” restored`, { about: this.id })
      const enqueue = () => void call('runs.enqueue', { ids: waited }).then(() => this.refresh(), notifyProblem)
      notify(`“${name}” restored. ${formatPlural(waited.length, 'run')} had been queued.`, {
        about: this.id,
        action: { label: 'Queue again', act: enqueue },
      })
    })
  }
}
