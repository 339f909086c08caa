import type { Input } from '#contract/api.ts'
import type { ModelDetail, Transfer } from '#contract/models/models.ts'
import { call, on, onMissed } from '../../api/api.ts'
import { failureOf } from '../../lib/failure.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt, notify, notifyProblem } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { stopAll } from '../../lib/schedule.ts'

/** One model's page. */
export class ModelState {
  model = new Loader<ModelDetail>()
  /** Whether the begin token is being measured. */
  measuring = $state(false)
  /** How far the measurement is; null before it has begun. */
  transfer = $state.raw<Transfer | null>(null)
  readonly id: string

  constructor(id: string) {
    this.id = id
  }

  follow(): () => void {
    this.refresh()
    return stopAll(
      on('transfer changed', ({ transfer }) => transfer.about === this.id && this.#take(transfer)),
      on('model changed', ({ model }) => model.id === this.id && this.refresh()),
      onMissed(() => this.refresh()),
    )
  }

  /** Measures the model's perplexity without and with its begin token. */
  async measureBegin(): Promise<void> {
    this.measuring = true
    this.transfer = null
    const failure = await failureOf(async () => this.#take(await call('models.measureBegin', { id: this.id })))
    if (failure) this.measuring = false
    if (failure) notifyProblem(failure)
  }

  async cancelMeasuring(): Promise<void> {
    const { transfer } = this
    if (transfer) await attempt(() => call('transfers.cancel', { id: transfer.id }))
  }

  #take(transfer: Transfer): void {
    const { status, problem } = transfer
    this.transfer = transfer
    this.measuring = status === 'running'
    if (status === 'failed') notify(problem ?? 'The measurement failed.', { tone: 'warm' })
  }

  refresh(): void {
    void this.model.load(() => call('models.get', { id: this.id }))
    void call('transfers.list', {}).then(
      (transfers) => {
        // The known one may have ended unseen, while the connection was lost.
        const known = transfers.find(({ id }) => id === this.transfer?.id)
        const running = transfers.find(({ about, status }) => about === this.id && status === 'running')
        const found = running ?? known
        if (found && (found.id !== this.transfer?.id || found.status !== this.transfer.status)) this.#take(found)
      },
      () => undefined,
    )
  }

  async update(changes: Omit<Input<'models.update'>, 'id'>): Promise<boolean> {
    const saved = await attempt(() => call('models.update', { id: this.id, ...changes }))
    this.refresh()
    return saved
  }

  async remove(name: string, files: boolean): Promise<void> {
    await attempt(async () => {
      await call('models.remove', { id: this.id, files })
      router.go(['models'])
      notify(`${name} was removed`, { undo: () => void call('models.restore', { id: this.id }).then(() => router.go(['models', this.id])) })
    })
  }
}
