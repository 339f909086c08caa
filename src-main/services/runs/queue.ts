import type { QueueState } from '#contract/runs/queue.ts'
import type { Context, Service } from '../context.ts'
import type { Estimates } from '../experiments/estimates.ts'

export function queueService({ queue }: Pick<Context, 'queue'>, estimates: Estimates): Service<'queue'> {
  const after = (act: () => void): QueueState => {
    act()
    return queue.state()
  }
  return {
    'queue.get': () => queue.state(),
    'queue.estimates': (_, signal) => estimates.ofQueue(signal),
    'queue.move': ({ id, before }) => after(() => queue.move(id, before)),
    'queue.pause': () => after(() => queue.setPaused(true)),
    'queue.seen': () => after(() => queue.forgetTakenUp()),
    'queue.resume': () => after(() => queue.setPaused(false)),
  }
}
