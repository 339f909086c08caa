import type { QueueState } from '#contract/queue.ts'
import type { Context, Service } from './context.ts'

export function queueService({ queue }: Pick<Context, 'queue'>): Service<'queue'> {
  const after = (act: () => void): QueueState => {
    act()
    return queue.state()
  }
  return {
    'queue.get': () => queue.state(),
    'queue.move': ({ id, before }) => after(() => queue.move(id, before)),
    'queue.pause': () => after(() => queue.setPaused(true)),
    'queue.resume': () => after(() => queue.setPaused(false)),
  }
}
