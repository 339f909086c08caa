import { basename, resolve } from 'node:path'
import { checkRepository, checkRevision } from '#hub/names.ts'
import type { Context, Service } from '../context.ts'
import { findModels } from './found-models.ts'
import type { Library } from './library.ts'
import { browse } from './library-files.ts'

/** Calls about models: checked here, carried out by the library. */
export function modelsService({ history }: Context, library: Library): Service<'models'> & Service<'files'> {
  return {
    'models.list': () => library.list(),
    'models.get': ({ id }) => library.detail(id),
    'models.check': ({ path }, signal) => library.describe(resolve(path), signal),
    'models.add'({ path, mode, name }) {
      const place = resolve(path)
      if (mode === 'copy') return library.copyIn(place, name ?? basename(place, '.gguf'))
      return library.register(place, { name, origin: 'linked', source: null, parent: null, run: null })
    },
    'models.found': () => findModels(),
    'models.update'({ id, ...patch }) {
      history.models.patch(library.find(id).id, patch)
      return library.tell(id)
    },
    'models.remove': ({ id, files }) => library.remove(id, files),
    'models.restore': ({ id }) => library.restore(id),
    'models.download'({ name, revision }) {
      checkRepository(name)
      if (revision !== undefined) checkRevision(revision)
      return library.download(name, revision)
    },
    'files.browse': ({ folder }) => browse(folder),
  }
}
