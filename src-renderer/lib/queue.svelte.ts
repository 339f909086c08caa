import { meanOf } from '#contract/comparison/statistics.ts'
import type { QueueState, TakenUp } from '#contract/runs/queue.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { addRanges, deviation, type RunEstimate, rangeLeft, type SecondsRange, secondsLeft } from '#contract/runs/time/estimate.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { call, on, onReconnect } from '../api/api.ts'
import { formatPlural } from '../lib/format.ts'
import { announce, notify } from './notices.svelte.ts'
import { debounce } from './schedule.ts'

let state = $state.raw<QueueState | null>(null)
let estimates = $state.raw<ReadonlyMap<string, RunEstimate>>(new Map())
/** The last progress of each phase of the listed runs, by run and phase: it says how far a run deviates from its estimate. */
const seen = new Map<string, Map<string, Progress>>()

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
  /** Why the run, transcript or transfer of this id waits for memory, in a sentence; null if it does not. */
  memoryWait(id: string): string | null {
    return state?.memoryWaits.find((one) => one.id === id)?.text ?? null
  },
  /** Time left of a run in the queue; null if unknown. */
  left({ id, progress }: Pick<RunEntry, 'id' | 'progress'>): SecondsRange | null {
    const estimate = estimates.get(id)
    return estimate ? rangeLeft(secondsLeft(progress, estimate, earlierOf(id, progress)), estimate.seconds) : null
  },
  /**
   * Time left if these runs are computed one after another; null if there are none or if the time of one is unknown. `counted` counts all
   * waiting runs: unlisted ones are assumed to take as long as the average listed one. Waiting runs are assumed to deviate from their
   * estimates as running ones of their method do, or as one that has just ended. Null too while none of them begins, because how long that
   * lasts is unknown.
   */
  leftOf(runs: readonly RunEntry[], counted = 0): SecondsRange | null {
    const lefts = (some: readonly RunEntry[]) => some.map((run) => queue.left(run)).filter((range) => range !== null)
    const [busy, others] = [runs.filter(({ status }) => status === 'running'), runs.filter(({ status }) => status !== 'running')]
    // The count may be older than the list, so it only says how many of the unlisted runs belong to these.
    const unlisted = state ? state.waiting - queue.waiting.length : 0
    const waiting = others.length + Math.max(0, Math.min(unlisted, counted - others.length))
    if (waiting > 0 && (state?.paused || state?.obstacle)) return null
    const [running, listed] = [lefts(busy), lefts(others)]
    const known = running.length + listed.length
    if (known === 0 || known < runs.length || (waiting > 0 && listed.length === 0)) return null
    const paces = Map.groupBy(
      busy.filter(({ progress }) => progress),
      ({ method }) => method,
    )
    const paced = (some: readonly RunEntry[], ranges: readonly SecondsRange[]) =>
      ranges.map((range, at) => {
        const { method, progress, status } = some[at] as RunEntry
        if (status === 'running' && progress) return range
        const like = paces.get(method)?.map(paceOf) ?? []
        return rangeLeft(range.likely * (like.length > 0 ? meanOf(like) : (endedPaces.get(method) ?? 1)), range)
      })
    const all = addRanges(paced(others, listed))
    return addRanges([...paced(busy, running), rangeLeft((all.likely * waiting) / Math.max(1, listed.length), all)])
  },
  set(next: QueueState): void {
    const before = state?.runs.map(({ id }) => id).join()
    for (const run of state?.runs ?? []) if (!next.runs.some(({ id }) => id === run.id)) rememberPace(run)
    if (state) tellQueue(state, next)
    state = next
    for (const id of seen.keys()) if (!next.runs.some((run) => run.id === id)) seen.delete(id)
    for (const run of next.runs) remember(run)
    if (next.takenUp) tellTakenUp(next.takenUp, next.paused)
    else toldTakenUp = false
    if (next.runs.map(({ id }) => id).join() !== before) estimateSoon()
  },
}

/**
 * How many times as long as estimated a running run takes. It is limited to the square of the range of its estimate: one slow run does not
 * tell more, and the time left does not jump when the estimates learn from it.
 */
function paceOf({ id, progress }: RunEntry): number {
  const estimate = estimates.get(id)
  if (!estimate || estimate.seconds.likely <= 0) return 1
  const { low, likely, high } = estimate.seconds
  return Math.min((high / likely) ** 2, Math.max((low / likely) ** 2, deviation(progress, estimate, earlierOf(id, progress))))
}

/** The paces of runs that ended since the last estimates, by method. Estimates that are made later know of these runs. */
const endedPaces = new Map<string, number>()

function rememberPace(run: RunEntry): void {
  if (run.progress && estimates.has(run.id)) endedPaces.set(run.method, paceOf(run))
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
      endedPaces.clear()
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
  on('run changed', ({ run, elsewhere }) => replaceRun(run, elsewhere))
  on('run event', ({ run, recorded: { event } }) => event.type === 'progress' && takeProgress(run, event.progress))
  onReconnect(refresh)
  refresh()
}

const ended = new Set(['done', 'failed', 'interrupted'])

/** Whether a change of status is announced on every page: that of a running run that stops by itself, is paused, or is cancelled elsewhere. */
export const isTold = (before: RunStatus | undefined, now: RunStatus, elsewhere = false): boolean =>
  before === 'running' && (ended.has(now) || now === 'paused' || (elsewhere && now === 'cancelled'))

/** Announces that the queue was paused, has stopped or was resumed. */
function tellQueue(before: QueueState, { paused, stopped, obstacle }: QueueState): void {
  const cause = stopped?.message ?? obstacle?.message
  const hadCause = before.stopped !== null || before.obstacle !== null
  if (cause !== undefined && !hadCause) announce(`Queue stopped. ${cause}`)
  else if (paused !== before.paused) announce(paused ? 'Queue paused' : 'Queue resumed')
  else if (cause === undefined && hadCause) announce('Queue resumed')
}

function remember({ id, progress }: Pick<RunEntry, 'id' | 'progress'>): void {
  if (progress) seen.set(id, (seen.get(id) ?? new Map<string, Progress>()).set(progress.phase, progress))
}

/** The last progress of each phase of a run except the current one. */
const earlierOf = (id: string, current: Progress | null): Progress[] =>
  [...(seen.get(id)?.values() ?? [])].filter(({ phase }) => phase !== current?.phase)

function takeProgress(id: string, progress: Progress): void {
  if (!state?.runs.some((run) => run.id === id)) return
  remember({ id, progress })
  state = { ...state, runs: state.runs.map((run) => (run.id === id ? { ...run, progress } : run)) }
}

function replaceRun(run: RunEntry, elsewhere?: boolean): void {
  const before = state?.runs.find(({ id }) => id === run.id)
  if (!state || !before) return
  if (run.status !== 'running') rememberPace(before)
  remember(run)
  // The next list comes later. Until then, a run that ended must not count as waiting, nor one that began.
  const isListed = run.status === 'running' || run.status === 'queued'
  const waiting = state.waiting - Number(before.status === 'queued' && run.status !== 'queued')
  state = { ...state, waiting, runs: state.runs.flatMap((entry) => (entry.id !== run.id ? entry : isListed ? run : [])) }
  if (!isListed) estimateSoon()
  if (!isTold(before.status, run.status, elsewhere)) return
  if (run.status === 'paused') announce(`${run.name}: paused`)
  // Notices of finished runs replace each other, because a pile of them would hide the page.
  else notify(`${run.name}: ${run.status}`, run.status === 'done' ? { about: 'done' } : { tone: 'warm' })
}
