import { basename, resolve } from 'node:path'
import { checkRepository, checkRevision } from '#hub/names.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { findModels } from './found-models.ts'
import { browse, checkpointAt } from './library-files.ts'

/** Calls about models and about the folders to choose them from. The library does the work. */
export class ModelsService extends Service {
  readonly calls: Calls<'models'> & Calls<'files'> = {
    'models.list': () => this.parts.library.list(),
    'models.get': ({ id }) => this.parts.library.detail(id),
    'models.check': ({ path }, signal) => this.parts.library.describe(checkpointAt(resolve(path)), signal),
    'models.add': ({ path, mode, name }) => {
      const place = checkpointAt(resolve(path))
      if (mode === 'copy') return this.parts.library.copyIn(place, name ?? basename(place, '.gguf'))
      return this.parts.library.register(place, { name, origin: 'linked', source: null, parent: null, run: null })
    },
    'models.measureBegin': ({ id }) => this.parts.library.measureBegin(id),
    'models.found': () => findModels(),
    'models.update': ({ id, ...patch }) => {
      this.history.models.patch(this.parts.library.find(id).id, patch)
      return this.parts.library.tell(id)
    },
    'models.remove': ({ id, files }) => this.parts.library.remove(id, files),
    'models.restore': ({ id }) => this.parts.library.restore(id),
    'models.download': ({ name, revision }) => {
      checkRepository(name)
      if (revision !== undefined) checkRevision(revision)
      return this.parts.library.download(name, revision)
    },
    'files.browse': ({ folder }) => browse(folder),
  }
}
