import type { Progress } from '#contract/progress.ts'
import type { QueueState } from '#contract/queue.ts'
import type { RunEntry } from '#contract/runs.ts'
import { call, on, onReconnect } from '../api.ts'
import { notify } from './notices.svelte.ts'

let state = $state.raw<QueueState | null>(null)

/** What runs and what waits, for every screen. */
export const queue = {
  get state(): QueueState | null {
    return state
  },
  get running(): RunEntry[] {
    return state?.runs.filter(({ status }) => status === 'running') ?? []
  },
  get waiting(): RunEntry[] {
    return state?.runs.filter(({ status }) => status !== 'running') ?? []
  },
  set(next: QueueState): void {
    state = next
  },
}

/** Loads the queue and follows it; called once at the start. */
export function followQueue(): void {
  const refresh = () => void call('queue.get', {}).then(queue.set, () => undefined)
  on('queue changed', (data) => queue.set(data.queue))
  on('run changed', ({ run }) => replaceRun(run))
  on('run event', ({ run, recorded: { event } }) => event.type === 'progress' && takeProgress(run, event.progress))
  onReconnect(refresh)
  refresh()
}

const ended = new Set(['done', 'failed', 'interrupted'])

function takeProgress(id: string, progress: Progress): void {
  if (!state?.runs.some((run) => run.id === id)) return
  state = { ...state, runs: state.runs.map((run) => (run.id === id ? { ...run, progress } : run)) }
}

function replaceRun(run: RunEntry): void {
  const before = state?.runs.find(({ id }) => id === run.id)
  if (!state || !before) return
  state = { ...state, runs: state.runs.map((entry) => (entry.id === run.id ? run : entry)) }
  if (before.status === 'running' && ended.has(run.status))
    notify(`${run.name}: ${run.status}`, { tone: run.status === 'done' ? 'plain' : 'warm' })
}
