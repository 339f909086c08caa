import { EspalierError } from '#contract/errors.ts'
import { newId } from '#db/ids.ts'
import type { Context, Service } from '../context.ts'

export function viewsService({ history }: Pick<Context, 'history'>): Service<'views'> {
  return {
    'views.list': () => history.views.list(),
    'views.save': ({ name, state }) => history.views.save({ id: newId('view'), name, state, createdAt: Date.now() }),
    'views.remove'({ id }) {
      if (!history.views.remove(id)) throw new EspalierError('not-found', `There is no view ${id}.`)
      return {}
    },
  }
}
