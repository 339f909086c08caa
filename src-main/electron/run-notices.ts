import { type BrowserWindow, Notification } from 'electron'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { shareDone } from '#contract/runs/time/progress.ts'
import type { Door } from '#server/door.ts'

const ended: ReadonlySet<RunStatus> = new Set(['done', 'failed'])

/** Shows the progress of runs in the taskbar, and a notification when one ends while the window is hidden. */
export function watchRuns(door: Door, window: BrowserWindow): () => void {
  const running = new Map<string, number>()
  return door.subscribe((event) => {
    if (event.name !== 'run changed' || window.isDestroyed()) return
    const { run } = event.data
    const wasRunning = running.delete(run.id)
    if (run.status === 'running') running.set(run.id, Math.min(shareDone(run.progress) ?? 0, 1))
    window.setProgressBar(meanOf([...running.values()]))
    if (wasRunning && ended.has(run.status) && !window.isFocused()) void notify(door, window, run)
  })
}

/** A negative value hides the bar. */
function meanOf(shares: number[]): number {
  return shares.length === 0 ? -1 : shares.reduce((sum, share) => sum + share, 0) / shares.length
}

async function notify(door: Door, window: BrowserWindow, run: RunEntry): Promise<void> {
  if (!Notification.isSupported()) return
  const { notifyWhenDone } = await door.call('settings.get', {})
  if (!notifyWhenDone) return
  const title = run.status === 'done' ? 'Run finished' : 'Run failed'
  const notice = new Notification({ title, body: run.problem ? `${run.name}: ${run.problem.message}` : run.name })
  notice.on('click', () => {
    window.show()
    window.focus()
  })
  notice.show()
}
