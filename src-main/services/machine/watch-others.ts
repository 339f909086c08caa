import type { Context } from '../context.ts'
import type { Transfers } from '../models/transfers.ts'

const heartbeatMilliseconds = 5000
const watchMilliseconds = 500

/** Updates this process's heartbeat, cleans up after dead processes, and reads what living ones wrote. */
export function watchOthers({ history, queue, owner }: Pick<Context, 'history' | 'queue' | 'owner'>, transfers: Transfers) {
  let seen = history.version()
  let beatAt = 0

  function beat(now: number): void {
    beatAt = now
    if (!history.owners.beat(owner, now)) history.owners.register(owner, now)
    const orphans = history.queue.interruptOrphans(history.owners.dead(now), now)
    transfers.closeOrphans()
    if (orphans.length > 0) queue.tellRuns(orphans.map(({ number }) => number))
    queue.takeUp()
    queue.work()
  }

  function look(): void {
    const now = Date.now()
    if (now - beatAt > heartbeatMilliseconds) beat(now)
    const version = history.version()
    if (version === seen) return
    seen = version
    queue.heedOthers()
    queue.work()
    queue.tellRuns([])
  }

  /** A full disk may have space again at the next turn, and skipping one does no harm. */
  function lookPatiently(): void {
    try {
      look()
    } catch (thrown) {
      console.error(thrown instanceof Error ? thrown.message : thrown)
    }
  }

  look()
  const timer = setInterval(lookPatiently, watchMilliseconds)
  return { stop: () => clearInterval(timer) }
}
