import { EspalierError } from '#contract/errors.ts'
import { newId } from '#db/ids.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

export class ViewsService extends Service {
  readonly calls: Calls<'views'> = {
    'views.list': () => this.history.views.list(),
    'views.save': ({ name, state }) => this.history.views.save({ id: newId('view'), name, state, createdAt: Date.now() }),
    'views.remove': ({ id }) => {
      if (!this.history.views.remove(id)) throw new EspalierError('not-found', `There is no view ${id}.`)
      return {}
    },
  }
}
