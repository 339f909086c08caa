import type { SavedView } from '#contract/runs/runs.ts'
import { call } from '../../api/api.ts'
import { notify, notifyProblem } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { type HistoryView, writeView } from './runs-query.ts'

/** The saved views of the history: queries of its address under names. */
export class SavedViews {
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
