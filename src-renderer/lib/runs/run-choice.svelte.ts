import type { Condition, RunEntry, RunPage } from '#contract/runs/runs.ts'
import { denseMethod } from '#contract/titles.ts'
import { call } from '../../api/api.ts'
import { Loader } from '../loader.svelte.ts'

/** Leaves out the unpruned model, in whatever weight type: before its weights are stored, it answers like itself. */
const pruned: Condition = { field: 'method', is: 'none of', value: [denseMethod] }

/** Finds finished runs, newest first. They need a plan, because runs without one have no measures and cannot answer. */
export function findFinishedRuns(search: string, conditions: readonly Condition[] = []): Promise<RunPage> {
  return call('runs.query', {
    search,
    limit: 200,
    columns: [],
    conditions: [{ field: 'status', is: 'any of', value: ['done'] }, { field: 'hasPlan', is: 'equal', value: true }, ...conditions],
  })
}

/** Finds finished runs of pruned models, of all models or of one. */
export function findPrunedRuns(search: string, model: string | undefined): Promise<RunPage> {
  return findFinishedRuns(search, [pruned, ...(model === undefined ? [] : [{ field: 'modelId', is: 'equal', value: model } as const])])
}

/** Offers pruned runs to choose from, of one model once the first is chosen. Chosen runs stay in the list whatever the search finds. */
export class RunChoice {
  chosen = $state.raw<RunEntry[]>([])
  /** Runs that were chosen before the last search. They come first, so that nothing moves under the pointer. */
  #first = $state.raw<RunEntry[]>([])
  readonly #found = new Loader<RunPage>()
  #searched = $state('')

  readonly ids: string[] = $derived(this.chosen.map(({ id }) => id))
  readonly model: string | undefined = $derived(this.chosen[0]?.model.id)
  readonly offered: RunEntry[] = $derived.by(() => {
    const rows = (this.#found.value?.rows ?? []).filter(({ id }) => this.#first.every((run) => run.id !== id))
    return [...this.#first, ...rows].filter(({ model }) => this.model === undefined || model.id === this.model)
  })
  /** The text of an empty list. Empty until the list is loaded. */
  readonly emptyText: string = $derived.by(() => {
    if (!this.#found.value) return ''
    return this.#searched === '' ? 'No finished run yet. Prune a model first.' : 'No finished run found.'
  })

  get problem(): string {
    return this.#found.problem?.message ?? ''
  }

  /** Offers the runs that match the text; without one, repeats the last search. */
  async search(text = this.#searched): Promise<void> {
    this.#searched = text
    this.#first = this.chosen
    await this.#found.load(() => findPrunedRuns(text, this.model))
  }

  /** Chooses the ticked runs, and offers the runs of their model if it has changed. */
  async choose(ids: readonly string[]): Promise<void> {
    const { model } = this
    this.chosen = this.offered.filter(({ id }) => ids.includes(id))
    if (this.model !== model) await this.search()
  }
}
