import type { QueueState } from '#contract/runs/queue.ts'
import type { RunQueue } from '#jobs/run-queue.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

export class QueueService extends Service {
  readonly calls: Calls<'queue'> = {
    'queue.get': () => this.parts.queue.state(),
    'queue.estimates': (_, signal) => this.parts.estimates.ofQueue(signal),
    'queue.move': ({ id, before }) => this.#after((queue) => queue.move(id, before)),
    'queue.pause': () => this.#after((queue) => queue.setPaused(true)),
    'queue.seen': () => this.#after((queue) => queue.forgetTakenUp()),
    'queue.resume': ({ retry }) => this.#after((queue) => queue.setPaused(false, retry)),
  }

  #after(act: (queue: RunQueue) => void): QueueState {
    act(this.parts.queue)
    return this.parts.queue.state()
  }
}
