import { call } from '../../../api/api.ts'
import { announce, attempt, notify, notifyProblem } from '../../../lib/notices.svelte.ts'
import { queue } from '../../../lib/queue.svelte.ts'

/** The user's actions on the queue. `busy` holds the runs whose change is under way. */
export class QueueActions {
  busy = $state.raw<ReadonlySet<string>>(new Set())

  async togglePause(paused: boolean): Promise<void> {
    await this.#attempt([], async () => queue.set(await call(paused ? 'queue.resume' : 'queue.pause', {})))
  }

  /** Moves a waiting run before another, or to the end if `before` is null. */
  async move(id: string, before: string | null): Promise<void> {
    await this.#attempt([id], async () => queue.set(await call('queue.move', { id, before })))
  }

  /** Moves a waiting run one place up (-1) or down (1). */
  async nudge(id: string, step: -1 | 1): Promise<void> {
    const waiting = queue.waiting
    const at = waiting.findIndex((run) => run.id === id)
    const target = at + step
    const isUnlisted = target + 1 >= waiting.length && (queue.state?.waiting ?? 0) > waiting.length
    if (at < 0 || target < 0 || target >= waiting.length || isUnlisted) return
    const before = step < 0 ? waiting[target] : waiting[target + 1]
    await this.move(id, before?.id ?? null)
    announce(`Now number ${target + 1} of ${queue.state?.waiting ?? waiting.length}`)
  }

  async pause(id: string): Promise<void> {
    await this.#attempt([id], async () => void (await call('runs.pause', { ids: [id] })))
  }

  async cancel(id: string): Promise<void> {
    await this.#attempt([id], async () => {
      const { undo } = await call('runs.act', { selection: { ids: [id] }, action: { kind: 'cancel' } })
      const name = queue.state?.runs.find((run) => run.id === id)?.name ?? 'Run'
      notify(`${name} cancelled`, undo === null ? {} : { undo: () => void call('runs.undo', { undo }).catch(notifyProblem) })
    })
  }

  async #attempt(ids: string[], action: () => Promise<void>): Promise<void> {
    this.busy = new Set([...this.busy, ...ids])
    await attempt(action)
    this.busy = new Set([...this.busy].filter((id) => !ids.includes(id)))
  }
}
