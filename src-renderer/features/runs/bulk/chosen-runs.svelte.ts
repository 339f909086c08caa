import { SvelteSet } from 'svelte/reactivity'
import type { Input } from '#contract/api.ts'
import type { SelectionInput, SelectionState } from '#contract/runs/bulk.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { call } from '../../../api/api.ts'
import { coalesce } from '../../../lib/schedule.ts'

type Filter = Input<'runs.csv'>

/**
 * The selected runs: ids, or everything that a filter finds except some ids. Runs that the current filter hides take no part unless the
 * user includes them. The service counts the runs, because most may never have been loaded.
 */
export class ChosenRuns {
  /** The selected ids, or with `#all` the excluded ones. */
  readonly #ids = new SvelteSet<string>()
  #all = $state.raw<{ filter: Filter; until: number } | null>(null)
  includesHidden = $state(false)
  state = $state.raw<SelectionState | null>(null)
  readonly #filter: () => Filter
  #turn = 0

  readonly #lookSoon = coalesce(() => void this.#look(), 60)

  constructor(filter: () => Filter) {
    this.#filter = filter
  }

  get isEmpty(): boolean {
    return this.#all === null && this.#ids.size === 0
  }

  /** The number of runs that an action would concern. Until the service has answered, the number of selected ids. */
  get count(): number {
    return this.state?.runs ?? (this.#all ? 0 : this.#ids.size)
  }

  /** Selected runs that the current filter hides. */
  get hidden(): number {
    return this.#all || this.includesHidden || !this.state ? 0 : Math.max(0, this.#ids.size - this.state.runs)
  }

  /** The ids to open on another screen: at most 500, in the order in which they were selected one by one. */
  get shownIds(): string[] {
    const known = new Set(this.state?.ids)
    return this.#all ? [...known] : [...this.#ids].filter((id) => !this.state || known.has(id))
  }

  has({ id, createdAt }: Pick<RunEntry, 'id' | 'createdAt'>): boolean {
    return this.#all ? createdAt <= this.#all.until && !this.#ids.has(id) : this.#ids.has(id)
  }

  toggle(run: Pick<RunEntry, 'id' | 'createdAt'>): void {
    if (!this.#ids.delete(run.id)) this.#ids.add(run.id)
    this.changed()
  }

  add(ids: readonly string[]): void {
    for (const id of ids) {
      if (this.#all) this.#ids.delete(id)
      else this.#ids.add(id)
    }
    this.changed()
  }

  /** Selects everything that the filter finds now. Runs that are made later are not included. */
  addAll(): void {
    this.#ids.clear()
    this.#all = { filter: this.#filter(), until: Date.now() }
    this.changed()
  }

  clear(): void {
    this.#ids.clear()
    this.#all = null
    this.includesHidden = false
    this.state = null
    this.#turn += 1
  }

  include(hidden: boolean): void {
    this.includesHidden = hidden
    this.changed()
  }

  /** A new filter ends the selection of everything that the old one found. Selected ids stay selected, but may be hidden. */
  filterChanged(): void {
    if (this.#all && JSON.stringify(this.#all.filter) !== JSON.stringify(this.#filter())) this.clear()
    this.includesHidden = false
    this.changed()
  }

  removed(ids: readonly string[]): void {
    for (const id of ids) this.#ids.delete(id)
    this.changed()
  }

  /** Asks the service for new counts. Called when they may have changed. */
  changed(): void {
    if (this.isEmpty) this.clear()
    else this.#lookSoon()
  }

  /** The selection in the form that calls take; null if nothing is selected. */
  get selection(): SelectionInput | null {
    if (this.isEmpty) return null
    const ids = [...this.#ids]
    if (!this.#all) return this.includesHidden ? { ids } : { ids, filter: this.#filter() }
    const { filter, until } = this.#all
    const made = { field: 'createdAt', is: 'at most' as const, value: until }
    return { filter: { ...filter, conditions: [...(filter.conditions ?? []), made] }, except: ids }
  }

  async #look(): Promise<void> {
    const { selection } = this
    this.#turn += 1
    const turn = this.#turn
    if (!selection) {
      this.state = null
      return
    }
    const state = await call('runs.selected', { selection }).catch(() => null)
    if (turn === this.#turn) this.state = state
  }
}
