import { meanOf } from '#contract/comparison/statistics.ts'
import type { QueueState, TakenUp } from '#contract/runs/queue.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { addRanges, deviation, type RunEstimate, rangeLeft, type SecondsRange, secondsLeft } from '#contract/runs/time/estimate.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { call, on, onReconnect } from '../api/api.ts'
import { formatPlural } from '../lib/format.ts'
import { notify } from './notices.svelte.ts'
import { debounce } from './schedule.ts'

let state = $state.raw<QueueState | null>(null)
let estimates = $state.raw<ReadonlyMap<string, RunEstimate>>(new Map())

/** Running and waiting runs, for every screen. */
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
  /** Why no waiting run begins although the queue was not paused, in two words; null if nothing holds them. */
  get hold(): string | null {
    if (state?.stopped) return 'queue stopped'
    return state?.obstacle ? holds[state.obstacle.kind] : null
  },
  /** Time left of a run in the queue; null if unknown. */
  left({ id, progress }: Pick<RunEntry, 'id' | 'progress'>): SecondsRange | null {
    const estimate = estimates.get(id)
    return estimate ? rangeLeft(secondsLeft(progress, estimate), estimate.seconds) : null
  },
  /**
   * Time left if these runs are computed one after another; null if there are none or if the time of one is unknown. `waiting` counts all
   * waiting runs: unlisted ones are assumed to take as long as the average listed one. All waiting runs are assumed to deviate from their
   * estimates as the running ones do. Null too while none of them begins, because how long that lasts is unknown.
   */
  leftOf(runs: readonly RunEntry[], waiting = runs.filter(({ status }) => status !== 'running').length): SecondsRange | null {
    if (waiting > 0 && (state?.paused || state?.obstacle)) return null
    const lefts = (some: readonly RunEntry[]) => some.map((run) => queue.left(run)).filter((range) => range !== null)
    const busy = runs.filter(({ status }) => status === 'running')
    const ranges = [lefts(busy), lefts(runs.filter(({ status }) => status !== 'running'))] as const
    const known = ranges[0].length + ranges[1].length
    if (known === 0 || known < runs.length || (waiting > 0 && ranges[1].length === 0)) return null
    const listed = addRanges(ranges[1])
    const longer = busy.flatMap(({ id, progress }) => deviation(progress, estimates.get(id) ?? { phases: [] }) ?? [])
    const scale = (waiting / Math.max(1, ranges[1].length)) * (longer.length > 0 ? meanOf(longer) : 1)
    return addRanges([...ranges[0], rangeLeft(listed.likely * scale, listed)])
  },
  set(next: QueueState): void {
    const before = state?.runs.map(({ id }) => id).join()
    state = next
    if (next.takenUp) tellTakenUp(next.takenUp, next.paused)
    else toldTakenUp = false
    if (next.runs.map(({ id }) => id).join() !== before) estimateSoon()
  },
}

const holds = { full: 'disk full', locked: 'history locked', failing: 'disk failing' } as const

let toldTakenUp = false

/** Reports, once per start of Espalier, which runs it resumed and which it held back. */
function tellTakenUp({ resumed, held }: TakenUp, paused: boolean): void {
  if (toldTakenUp) return
  toldTakenUp = true
  void call('queue.seen', {}).catch(() => undefined)
  const named = (runs: TakenUp['held']) => (runs.length === 1 ? `“${runs[0]?.name}”` : formatPlural(runs.length, 'run'))
  if (resumed.length > 0)
    notify(`${named(resumed)} stopped when Espalier closed; ${paused ? 'now first in the paused queue' : 'resumed now'}`)
  if (held.length > 0) notify(`${named(held)} stopped twice when Espalier ended unexpectedly. Resume manually.`, { tone: 'warm' })
}

const estimateSoon = debounce(() => {
  if (!state?.runs.length) return
  call('queue.estimates', {}).then(
    (found) => {
      estimates = new Map(found.flatMap((one) => ('seconds' in one ? [[one.run, one] as const] : [])))
    },
    () => undefined,
  )
}, 300)

/** Loads the queue and follows it; called once at the start. */
export function followQueue(): void {
  const refresh = () => void call('queue.get', {}).then(queue.set, () => undefined)
  on('engine changed', ({ engine }) => engine.selfTest && estimateSoon())
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
    // Notices of finished runs replace each other, because a pile of them would hide the page.
    notify(`${run.name}: ${run.status}`, run.status === 'done' ? { about: 'done' } : { tone: 'warm' })
}
