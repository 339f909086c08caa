import { type FoundModel, type ModelDescription, type ModelEntry, mostMeasuredParameters } from '#contract/models/models.ts'
import { call, choosePlace, hasSystemDialog, placeOf } from '../../api/api.ts'
import { failureOf } from '../../lib/failure.ts'
import { FolderPlace } from '../../lib/folder-place.svelte.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt } from '../../lib/notices.svelte.ts'
import { fitText, freeMemory } from './models.ts'

/** The dialog that adds a model: where the user looks, what was found there, and what went wrong. */
export class AddModelState {
  readonly place = new FolderPlace()
  source = $state<'folder' | 'elsewhere' | 'hub'>('folder')
  path = $state('')
  /** The latest check of a path: what is there, and whether it fits this machine. Results of earlier checks are ignored. */
  checked = $state.raw(new Loader<{ found: ModelDescription; fit: string }>())
  /** Models that other programs keep here; null until known. */
  elsewhere = $state.raw<FoundModel[] | null>(null)
  adding = $state(false)
  problem = $state<string | null>(null)
  /** Whether the system's own dialog can be used, which only a window has. */
  readonly hasSystemDialog = hasSystemDialog()

  async lookElsewhere(): Promise<void> {
    this.elsewhere = await call('models.found', {}).catch(() => [])
  }

  async chooseBySystem(kind: 'folder' | 'file'): Promise<void> {
    const chosen = await choosePlace(kind)
    if (chosen) await this.check(chosen)
  }

  /** Checks a file or folder that the user chose outside the dialog. */
  async choose(path: string): Promise<void> {
    this.source = 'folder'
    await this.check(path)
  }

  async drop(file: File): Promise<void> {
    this.source = 'folder'
    const place = placeOf(file)
    if (place) await this.check(place)
    else this.problem = `A browser does not reveal where ${file.name} is. Find it in the list, or type its path.`
  }

  /** Describes the model at a path without adding it. A newer check replaces it. */
  async check(path: string): Promise<void> {
    this.path = path
    this.problem = null
    this.checked = new Loader()
    await this.checked.load(async () => {
      const [found, engine] = await Promise.all([call('models.check', { path }), call('engine.get', {})])
      return { found, fit: fitText(found.parameters.total, freeMemory(engine)) }
    })
  }

  /** Adds the model or starts its download, and returns whether that worked. A check that is under way is ignored. */
  async add(source: { hub: { name: string; revision?: string } } | { mode: 'link' | 'copy' }): Promise<boolean> {
    if (this.checked.busy) this.checked = new Loader()
    this.adding = true
    this.problem = null
    const failure = await failureOf(async () => {
      if ('hub' in source) await call('models.download', source.hub)
      else measureIfSmall(await call('models.add', { path: this.path, mode: source.mode }))
    })
    this.problem = failure?.message ?? null
    this.adding = false
    return failure === null
  }

  /** Clears the dialog for another model. */
  reset(): void {
    this.path = ''
    this.checked = new Loader()
    this.problem = null
  }
}

/** Measures the begin token of a model that was just added, unless that would take minutes. The result arrives with the model. */
export function measureIfSmall({ id, description, beginFigures }: ModelEntry): void {
  const { begins, parameters } = description
  if (!begins?.token || beginFigures || parameters.total > mostMeasuredParameters) return
  void attempt(() => call('models.measureBegin', { id }))
}
