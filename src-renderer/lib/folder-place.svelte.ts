import type { Output } from '#contract/api.ts'
import { call } from '../api/api.ts'
import { failureOf } from './failure.ts'

type Place = Output<'files.browse'>
export type FolderEntry = Place['entries'][number]

/** A folder of this machine and what is in it, for choosing something without the system's dialog. */
export class FolderPlace {
  found = $state.raw<Place | null>(null)
  problem = $state('')

  /** Lists the folder of a path, or the folder that holds it. Without such a folder, lists the user's own. */
  async start(path: string): Promise<void> {
    for (const folder of path === '' ? [] : [path, path.replace(/[\\/]+[^\\/]*$/, '') || '/']) {
      await this.browse(folder)
      if (this.problem === '') return
    }
    await this.browse()
  }

  /** Lists a folder; by default the user's own. */
  async browse(folder?: string): Promise<void> {
    const failure = await failureOf(async () => (this.found = await call('files.browse', folder === undefined ? {} : { folder })))
    this.problem = failure?.message ?? ''
  }
}
