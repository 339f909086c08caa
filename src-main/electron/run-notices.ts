import { type BrowserWindow, Notification } from 'electron'
import type { QueueState } from '#contract/runs/queue.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { type RunEstimate, secondsLeft } from '#contract/runs/time/estimate.ts'
import { type Progress, shareDone } from '#contract/runs/time/progress.ts'
import { plural } from '#contract/words.ts'
import type { Door } from '#server/door.ts'
import type { PageCommands } from './page-commands.ts'
import { showWindow } from './window.ts'

const ended: ReadonlySet<RunStatus> = new Set(['done', 'failed'])

/** Runs that end within this time share a notification. */
const togetherMilliseconds = 2000

/** Shows the progress of the queue in the taskbar, and a notification when runs end while the window has no focus. */
export function watchRuns(door: Door, window: BrowserWindow, commands: PageCommands): () => void {
  const bar = new QueueBar(door, (share) => {
    if (!window.isDestroyed()) window.setProgressBar(share)
  })
  const notices = new EndNotices(door, window, commands)
  return door.subscribe((event) => {
    if (event.name === 'run event') {
      const { run, recorded } = event.data
      if (recorded.event.type === 'progress') bar.progress(run, recorded.event.progress)
    } else if (event.name === 'queue changed') bar.queue(event.data.queue)
    else if (event.name === 'run changed') {
      const { run } = event.data
      const wasRunning = bar.run(run)
      if (wasRunning && ended.has(run.status) && !window.isDestroyed() && !window.isFocused()) notices.add(run)
    }
  })
}

/** The share of the queue that is done: of the ended, running and waiting runs since it was last empty. */
class QueueBar {
  readonly #door: Door
  readonly #show: (share: number) => void
  readonly #running = new Map<string, Progress | null>()
  #estimates: ReadonlyMap<string, RunEstimate> = new Map()
  #ended = 0
  #waiting = 0
  #estimated = ''

  constructor(door: Door, show: (share: number) => void) {
    this.#door = door
    this.#show = show
  }

  progress(id: string, progress: Progress): void {
    if (!this.#running.has(id)) return
    this.#running.set(id, progress)
    this.#draw()
  }

  /** Returns whether the run was running until now. */
  run({ id, status, progress }: RunEntry): boolean {
    const wasRunning = this.#running.has(id)
    if (status === 'running') this.#running.set(id, progress ?? this.#running.get(id) ?? null)
    else this.#running.delete(id)
    if (wasRunning && status !== 'running') this.#ended += 1
    this.#draw()
    return wasRunning
  }

  queue({ runs, waiting, paused }: QueueState): void {
    const running = runs.filter(({ status }) => status === 'running')
    for (const { id, progress } of running) if (!this.#running.has(id)) this.#running.set(id, progress)
    this.#waiting = paused ? 0 : waiting
    this.#draw()
    const ids = running.map(({ id }) => id).join()
    if (ids !== '' && ids !== this.#estimated) void this.#estimate(ids)
  }

  async #estimate(running: string): Promise<void> {
    this.#estimated = running
    const found = await this.#door.call('queue.estimates', {}).catch(() => [])
    this.#estimates = new Map(found.flatMap((one) => ('seconds' in one ? [[one.run, one] as const] : [])))
    this.#draw()
  }

  /** The share of a run by its estimated time, or the share of its phase if there is no estimate. */
  #shareOf(id: string, progress: Progress | null): number {
    const estimate = this.#estimates.get(id)
    const all = estimate?.seconds.likely ?? 0
    const share = estimate && all > 0 ? 1 - secondsLeft(progress, estimate) / all : (shareDone(progress) ?? 0)
    return Math.min(1, Math.max(0, share))
  }

  /** A negative value hides the bar. */
  #draw(): void {
    if (this.#running.size === 0 && this.#waiting === 0) this.#ended = 0
    if (this.#running.size === 0) {
      this.#show(-1)
      return
    }
    const done = [...this.#running].reduce((sum, [id, progress]) => sum + this.#shareOf(id, progress), this.#ended)
    this.#show(done / (this.#ended + this.#running.size + this.#waiting))
  }
}

/** Collects runs that end together into one notification. A click shows the run, or all runs. */
class EndNotices {
  readonly #door: Door
  readonly #window: BrowserWindow
  readonly #commands: PageCommands
  /** Without this, a notification that nothing refers to loses its click. */
  readonly #shown = new Set<Notification>()
  #runs: RunEntry[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(door: Door, window: BrowserWindow, commands: PageCommands) {
    this.#door = door
    this.#window = window
    this.#commands = commands
  }

  add(run: RunEntry): void {
    this.#runs.push(run)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#notify(this.#runs.splice(0)), togetherMilliseconds)
  }

  async #notify(runs: readonly RunEntry[]): Promise<void> {
    if (!Notification.isSupported() || this.#window.isDestroyed()) return
    const { notifyWhenDone } = await this.#door.call('settings.get', {})
    if (!notifyWhenDone) return
    const notice = new Notification(noticeOf(runs))
    this.#shown.add(notice)
    notice.on('close', () => this.#shown.delete(notice))
    notice.on('click', () => {
      showWindow(this.#window)
      this.#commands.send({ name: 'go', hash: placeOf(runs) })
    })
    notice.show()
  }
}

/** The title and text of the notification for runs that ended together. */
export function noticeOf(runs: readonly RunEntry[]): { title: string; body: string } {
  const failed = runs.filter(({ status }) => status === 'failed')
  const [first] = failed.length > 0 ? failed : runs
  const named = first?.problem ? `${first.name}: ${first.problem.message}` : (first?.name ?? '')
  if (runs.length === 1) return { title: failed.length > 0 ? 'Run failed' : 'Run finished', body: named }
  const done = runs.length - failed.length
  const title = [done > 0 && `${plural(done, 'run')} finished`, failed.length > 0 && `${failed.length} failed`].filter(Boolean).join(', ')
  const others = runs.length - 1
  return { title, body: `${named}, and ${others === 1 ? 'another one' : `${others} others`}` }
}

function placeOf(runs: readonly RunEntry[]): string {
  const [first] = runs
  if (first && runs.length === 1) return `#/run/${first.id}`
  const experiment = first?.experiment?.id
  return experiment && runs.every((run) => run.experiment?.id === experiment) ? `#/experiments/${experiment}` : '#/runs'
}
