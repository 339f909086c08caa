import type { ModelDetail } from '#contract/models/models.ts'
import { call, on, onReconnect } from '../../api/api.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt, notify } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { stopAll } from '../../lib/schedule.ts'

/** One model's page. */
export class ModelState {
  model = new Loader<ModelDetail>()
  readonly id: string

  constructor(id: string) {
    this.id = id
  }

  follow(): () => void {
    this.refresh()
    return stopAll(
      on('model changed', ({ model }) => model.id === this.id && this.refresh()),
      onReconnect(() => this.refresh()),
    )
  }

  refresh(): void {
    void this.model.load(() => call('models.get', { id: this.id }))
  }

  async update(changes: { name?: string; notes?: string; tags?: string[]; starred?: boolean }): Promise<void> {
    await attempt(async () => {
      await call('models.update', { id: this.id, ...changes })
      this.refresh()
    })
  }

  async remove(name: string, files: boolean): Promise<void> {
    await attempt(async () => {
      await call('models.remove', { id: this.id, files })
      router.go(['models'])
      notify(`${name} was removed`, { undo: () => void call('models.restore', { id: this.id }).then(() => router.go(['models', this.id])) })
    })
  }
}
