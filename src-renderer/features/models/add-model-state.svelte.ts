import type { Output } from '#contract/api.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { FoundModel, ModelDescription } from '#contract/models/models.ts'
import { call, choosePlace, hasSystemDialog, placeOf, usesOtherMachine } from '../../api/api.ts'
import { fitText, freeMemory } from './models.ts'

export type Place = Output<'files.browse'>

/** The dialog that adds a model: where the user looks, what was found there, and what went wrong. */
export class AddModelState {
  place = $state.raw<Place | null>(null)
  placeProblem = $state('')
  source = $state<'folder' | 'elsewhere' | 'hub'>('folder')
  path = $state('')
  found = $state.raw<ModelDescription | null>(null)
  /** Whether what was found fits this machine. */
  fit = $state('')
  /** Models that other programs keep here; null until known. */
  elsewhere = $state.raw<FoundModel[] | null>(null)
  looking = $state(false)
  adding = $state(false)
  problem = $state<string | null>(null)
  /** The number of the latest check. Answers to earlier ones are ignored. */
  #look = 0
  /** The window also has the system's dialog. */
  readonly hasSystemDialog = hasSystemDialog()

  async browse(folder?: string): Promise<void> {
    try {
      this.place = await call('files.browse', folder === undefined ? {} : { folder })
      this.placeProblem = ''
    } catch (thrown) {
      this.placeProblem = toErrorMessage(thrown).message
    }
  }

  async lookElsewhere(): Promise<void> {
    this.elsewhere = await call('models.found', {}).catch(() => [])
  }

  async chooseBySystem(kind: 'folder' | 'file'): Promise<void> {
    const chosen = await choosePlace(kind)
    if (chosen) await this.check(chosen)
  }

  async drop(file: File): Promise<void> {
    this.source = 'folder'
    const place = placeOf(file)
    if (place) await this.check(place)
    else if (usesOtherMachine()) this.problem = 'This window uses another machine. Type the path there.'
    else this.problem = `A browser does not reveal where ${file.name} is. Find it in the list, or type its path.`
  }

  /** Describes the model at a path without adding it. Of several checks at once, the latest counts. */
  async check(path: string): Promise<void> {
    this.#look += 1
    const look = this.#look
    this.path = path
    this.found = null
    this.fit = ''
    this.problem = null
    this.looking = true
    try {
      const [found, engine] = await Promise.all([call('models.check', { path }), call('engine.get', {})])
      if (look !== this.#look) return
      this.found = found
      this.fit = fitText(found.parameters.total, freeMemory(engine))
    } catch (thrown) {
      if (look === this.#look) this.problem = toErrorMessage(thrown).message
    } finally {
      if (look === this.#look) this.looking = false
    }
  }

  /** Returns whether it was added, or its download began. A check that is under way no longer matters. */
  async add(source: { hub: { name: string; revision?: string } } | { mode: 'link' | 'copy' }): Promise<boolean> {
    this.#look += 1
    this.looking = false
    this.adding = true
    this.problem = null
    try {
      if ('hub' in source) await call('models.download', source.hub)
      else await call('models.add', { path: this.path, mode: source.mode })
      return true
    } catch (thrown) {
      this.problem = toErrorMessage(thrown).message
      return false
    } finally {
      this.adding = false
    }
  }

  /** Ready for another model. */
  reset(): void {
    this.#look += 1
    this.path = ''
    this.found = null
    this.problem = null
    this.looking = false
  }
}
