import type { Output } from '#contract/api.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { ModelDescription } from '#contract/models.ts'
import { call, chooseCheckpoint, isWindow } from '../../api.ts'

export type Place = Output<'files.browse'>

/** The dialog that adds a model: where one looks, what was found there, and what went wrong. */
export class AddModelState {
  place = $state.raw<Place | null>(null)
  placeProblem = $state('')
  path = $state('')
  found = $state.raw<ModelDescription | null>(null)
  busy = $state(false)
  problem = $state<string | null>(null)
  /** The window has the system's own dialog besides. */
  readonly hasSystemDialog = isWindow

  async browse(folder?: string): Promise<void> {
    try {
      this.place = await call('files.browse', folder === undefined ? {} : { folder })
      this.placeProblem = ''
    } catch (thrown) {
      this.placeProblem = toErrorMessage(thrown).message
    }
  }

  async chooseBySystem(kind: 'folder' | 'file'): Promise<void> {
    const chosen = await chooseCheckpoint(kind)
    if (chosen) await this.check(chosen)
  }

  /** Describes what lies there without adding it. */
  async check(path: string): Promise<void> {
    this.path = path
    this.found = null
    await this.#attempt(async () => {
      this.found = await call('models.check', { path })
    })
  }

  /** Whether it was added, or its download began. */
  add(source: { hub: { name: string; revision?: string } } | { mode: 'link' | 'copy' }): Promise<boolean> {
    return this.#attempt(async () => {
      if ('hub' in source) await call('models.download', source.hub)
      else await call('models.add', { path: this.path, mode: source.mode })
    })
  }

  async #attempt(action: () => Promise<void>): Promise<boolean> {
    this.busy = true
    this.problem = null
    try {
      await action()
      return true
    } catch (thrown) {
      this.problem = toErrorMessage(thrown).message
      return false
    } finally {
      this.busy = false
    }
  }
}
