import type { ComparedRun, Comparison } from '#contract/comparison/compared-run.ts'
import { mostCompared, mostReported } from '#contract/comparison/comparison-calls.ts'
import { comparedGroups } from '#contract/comparison/comparison-table.ts'
import type { MeasureColumn } from '#contract/comparison/measure-columns.ts'
import { hasSeveralSeeds } from '#contract/comparison/seeds.ts'
import { type NamedTable, sparsityTables } from '#contract/comparison/sparsity-table.ts'
import type { ErrorMessage } from '#contract/errors.ts'
import type { ModelDescription } from '#contract/models/models.ts'
import { denseMethod, isInspection, type TableFormat } from '#contract/titles.ts'
import { call } from '../../api/api.ts'
import { catalogue } from '../../lib/catalogue.svelte.ts'
import { formatPlural } from '../../lib/format.ts'
import { keepLast, lastKept } from '../../lib/last-kept.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt, notify } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { saveText } from '../../lib/save-file.ts'
import { Titles } from '../../lib/titles.svelte.ts'
import { orderSubjects, runColumns, type Subject, toSubject } from './subjects.ts'

/** The runs that the address names, at most as many as a comparison takes, and how many it leaves out. */
interface ComparedAddress {
  readonly comparison: Comparison
  readonly leftOut: number
}

/** What is compared and how it is shown. The address keeps runs, baseline and switches. */
export class CompareState {
  /** Whether reports keep the paths of this machine. */
  paths = $state(false)
  highlighted = $state<string | null>(null)
  descriptions = $state.raw<ReadonlyMap<string, ModelDescription>>(new Map())
  readonly #compared = new Loader<ComparedAddress | null>()
  /** The part of the address that was loaded last; null before the first. */
  #loadedKey: string | null = null
  readonly #titles: Titles

  constructor(loadTitles?: () => Promise<unknown>) {
    this.#titles = new Titles(loadTitles)
  }

  get titled(): boolean {
    return this.#titles.settled
  }

  readonly comparison: Comparison | null = $derived(this.#compared.value?.comparison ?? null)
  readonly leftOut: number = $derived(this.#compared.value?.leftOut ?? 0)
  /** Seeds are averaged unless the address asks for each. */
  readonly overSeeds: boolean = $derived(router.query.seeds !== 'each')
  /** Whether the screen weighs files against their rivals instead of comparing runs with the baseline. */
  readonly weighs: boolean = $derived(router.query.view === 'worth')
  readonly onlyDifferences: boolean = $derived(router.query.only === 'differences')
  readonly transposed: boolean = $derived(router.query.transposed === 'yes')
  readonly baselineId: string | null = $derived(this.comparison?.baseline ?? null)

  readonly subjects: Subject[] = $derived.by(() => {
    const { comparison } = this
    if (!comparison) return []
    const groups = comparedGroups(comparison.runs, comparison.baseline, this.overSeeds)
    return orderSubjects(groups.map((group) => toSubject(group, comparison.baseline)))
  })
  /** The runs in the order of the screen, which exports use too. */
  readonly inOrder: ComparedRun[] = $derived(this.subjects.flatMap(({ runs }) => runs))
  /** All measures that the runs have. `columns` are those that are shown. */
  readonly allColumns: MeasureColumn[] = $derived(runColumns(this.subjects))
  readonly hiddenColumns: ReadonlySet<string> = $derived(new Set((router.query.without ?? '').split('~').filter(Boolean)))
  readonly columns: MeasureColumn[] = $derived(this.allColumns.filter(({ id }) => !this.hiddenColumns.has(id)))
  readonly severalSeeds: boolean = $derived(hasSeveralSeeds(this.comparison?.runs ?? []))
  readonly sparsities: NamedTable[] = $derived(sparsityTables(this.inOrder, catalogue.optionLabel))
  readonly baseline: Subject | null = $derived(this.subjects.find(({ runs }) => runs.some(({ id }) => id === this.baselineId)) ?? null)

  /** The first five runs that can be inspected: one inspection takes no more. */
  readonly pruned: string[] = $derived(
    (this.comparison?.runs ?? [])
      .filter(({ hasPlan, method }) => hasPlan && method !== denseMethod)
      .slice(0, 5)
      .map(({ id }) => id),
  )

  get busy(): boolean {
    return this.#compared.busy
  }

  get problem(): ErrorMessage | null {
    return this.#compared.problem
  }

  /** Restores the last choice when the screen opens without one in its address. Otherwise stores the current choice. */
  #recall(): void {
    const { experiment, runs } = router.query
    if (experiment || runs) keepLast('compare', router.query)
    else if (this.#loadedKey === null) router.replaceQuery({ ...lastKept('compare'), ...router.query })
    else keepLast('compare', {})
  }

  /**
   * Loads the runs that the address names. An experiment means all its finished runs, except inspections. Runs that are shown already are
   * loaded again only with `again`.
   */
  async load(again = false): Promise<void> {
    this.#recall()
    const { experiment, runs = '', baseline = '' } = router.query
    const key = `${experiment ?? ''} ${runs} ${baseline}`
    if (key === this.#loadedKey && !this.problem && !again) return
    this.#loadedKey = key
    this.#titles.ask()
    const compared = await this.#compared.load(async () => {
      if (runs) return compareRuns(runs.split(','), baseline)
      return experiment ? compareExperiment(experiment, baseline) : null
    })
    if (compared) void this.#describeModels(compared.comparison)
  }

  /** Writes a switch or a choice into the address. */
  set(changes: Record<string, string>): void {
    router.replaceQuery({ ...router.query, ...changes })
  }

  toggleColumn(id: string): void {
    const hidden = new Set(this.hiddenColumns)
    if (!hidden.delete(id)) hidden.add(id)
    this.set({ without: [...hidden].join('~') })
  }

  addRuns(ids: string[]): void {
    const present = this.comparison?.runs.map(({ id }) => id) ?? []
    this.#setRuns([...new Set([...present, ...ids])])
  }

  removeRuns(ids: string[]): void {
    const present = this.comparison?.runs.map(({ id }) => id) ?? []
    this.#setRuns(present.filter((id) => !ids.includes(id)))
  }

  /** The table of runs, or of one measure by method and sparsity. */
  async saveTable(format: TableFormat, measure?: string): Promise<void> {
    const ids = this.inOrder.map(({ id }) => id)
    await attempt(async () => {
      saveText(
        await call('compare.table', {
          ids,
          format,
          overSeeds: this.overSeeds,
          ...(measure === undefined ? { measures: this.columns.map(({ id }) => id) } : { measures: [measure], by: 'sparsity' }),
          ...(this.baselineId ? { baseline: this.baselineId } : {}),
        }),
      )
    })
  }

  /** The tests between the results that two runs belong to. */
  async savePair(pair: [string, string], format: TableFormat): Promise<void> {
    const ids = this.inOrder.map(({ id }) => id)
    await attempt(async () => saveText(await call('compare.table', { ids, format, by: 'pair', pair, overSeeds: this.overSeeds })))
  }

  async saveReport(format: 'html' | 'markdown'): Promise<void> {
    const { experiment } = router.query
    const all = this.comparison?.runs.map(({ id }) => id) ?? []
    const runs = all.slice(0, mostReported)
    await attempt(async () => {
      saveText(
        await call('reports.make', { ...(experiment ? { experiment } : { runs }), format, overSeeds: this.overSeeds, paths: this.paths }),
      )
      if (!experiment && all.length > runs.length) notify(`The report has the first ${runs.length} of ${formatPlural(all.length, 'run')}.`)
    })
  }

  #setRuns(ids: string[]): void {
    const { experiment: _, ...query } = router.query
    router.replaceQuery({ ...query, runs: ids.join(',') })
  }

  async #describeModels(comparison: Comparison): Promise<void> {
    const models = new Set(comparison.runs.map(({ model }) => model.id))
    const descriptions = await Promise.all(
      [...models].map((id) =>
        call('models.get', { id }).then(
          ({ description }) => [id, description] as const,
          () => null,
        ),
      ),
    )
    if (comparison === this.comparison) this.descriptions = new Map(descriptions.filter((entry) => entry !== null))
  }
}

/** Compares all finished runs of an experiment, except inspections. */
async function compareExperiment(experiment: string, baseline: string): Promise<ComparedAddress> {
  const { rows, total } = await call('runs.query', {
    experiment,
    limit: mostCompared,
    columns: [],
    conditions: [{ field: 'status', is: 'any of', value: ['done'] }],
  })
  const ids = rows.filter(({ method }) => !isInspection(method)).map(({ id }) => id)
  const { comparison } = await compareRuns(ids, baseline)
  return { comparison, leftOut: total - rows.length }
}

async function compareRuns(ids: readonly string[], baseline: string): Promise<ComparedAddress> {
  if (ids.length === 0) return { comparison: { baseline: null, runs: [] }, leftOut: 0 }
  const compared = ids.slice(0, mostCompared)
  const comparison = await call('compare.get', { ids: compared, ...(baseline ? { baseline } : {}) })
  return { comparison, leftOut: ids.length - compared.length }
}
