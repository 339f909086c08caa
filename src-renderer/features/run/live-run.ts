import { measureId } from '#contract/comparison/measure-columns.ts'
import { withPoint } from '#contract/pruning/recovery.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { type Progress, partTitle } from '#contract/runs/time/progress.ts'
import { denseMethod } from '#contract/titles.ts'

/** A phase as the page lists it. A `stopped` phase did not finish before the run ended or paused. */
export interface Phase {
  name: string
  progress: Progress | null
  seconds: number | null
  state: 'done' | 'running' | 'stopped'
}

/** Returns the run with one more event applied. Applying an event twice changes nothing. */
export function takeEvent(run: RunDetail, event: RunEvent): RunDetail {
  switch (event.type) {
    case 'decision':
      return addTo(run, 'decisions', event.decision, ['round', 'kind', 'block'])
    case 'selection':
      return addTo(run, 'selections', event.selection, ['generation', 'tokens'])
    case 'spectrum': {
      const others = run.spectra.filter(({ part }) => part !== event.spectrum.part)
      return { ...run, spectra: [...others, event.spectrum].sort((a, b) => a.part - b.part) }
    }
    case 'width':
      return { ...run, width: { kept: event.kept, of: event.of } }
    case 'neuron scores': {
      const { type: _, ...neuronScores } = event
      return { ...run, neuronScores }
    }
    case 'recovery':
      return { ...run, recoveryPoints: withPoint(run.recoveryPoints, event.point) }
    case 'gates': {
      const others = run.gateSteps.filter(({ step }) => step !== event.step.step)
      return { ...run, gateSteps: [...others, event.step].sort((a, b) => a.step - b.step) }
    }
    case 'measure': {
      const id = measureId(event.measure)
      return {
        ...run,
        measures: [...run.measures.filter((measure) => measureId(measure) !== id), { ...event.measure, best: event.measure.value }],
      }
    }
    case 'note':
      return run.remarks.includes(event.text) ? run : { ...run, remarks: [...run.remarks, event.text] }
    case 'model':
      return { ...run, fingerprint: event.fingerprint }
    case 'progress':
      return { ...run, progress: event.progress }
  }
}

/** Appends an entry to a list of the run, unless the list has one with the same keys. */
function addTo<List extends 'decisions' | 'selections', Entry extends RunDetail[List][number]>(
  run: RunDetail,
  list: List,
  entry: Entry,
  keys: readonly (keyof Entry)[],
): RunDetail {
  const entries = run[list] as Entry[]
  return entries.some((other) => keys.every((key) => other[key] === entry[key])) ? run : { ...run, [list]: [...entries, entry] }
}

/** Updates the list of phases: the phase that reports progress is running, and all others are done. */
export function takeProgress(phases: readonly Phase[], progress: Progress): Phase[] {
  const before = phases.filter(({ name }) => name !== progress.phase).map((phase): Phase => ({ ...phase, state: 'done' }))
  return [...before, { name: progress.phase, progress, seconds: null, state: 'running' }]
}

/** Phases shorter than this many seconds are hidden: they had nothing to do. */
const shortestShown = 0.001

/** Lists finished phases with their seconds, then the phases seen live. If the run is not running, its running phase counts as stopped. */
export function listPhases(run: RunDetail, live: readonly Phase[]): Phase[] {
  const finished = Object.entries(run.phaseSeconds)
    .filter(([, seconds]) => seconds >= shortestShown)
    .map(([part, seconds]): Phase => ({ name: partTitle(part), progress: null, seconds, state: 'done' }))
  const names = new Set(finished.map(({ name }) => name))
  if (run.status === 'done') return finished
  const seen = live.filter(({ name }) => !names.has(name))
  return [...finished, ...(run.status === 'running' ? seen : seen.map(asStopped))]
}

/**
 * The seconds of a finished run with those of the steps that other runs had done; null if these hardly matter. Phases such as repair count
 * all their steps, whoever did them.
 */
export function secondsWithOthers({
  status,
  seconds,
  phaseSeconds,
}: Pick<RunDetail, 'status' | 'seconds' | 'phaseSeconds'>): number | null {
  const all = Object.values(phaseSeconds).reduce((sum, own) => sum + own, 0)
  return status === 'done' && seconds !== null && all > 1.02 * seconds + 1 ? all : null
}

function asStopped(phase: Phase): Phase {
  return phase.state === 'running' ? { ...phase, state: 'stopped' } : phase
}

/** Says why a run has no decisions to show. */
export function undecidedText({ method, baseline, status }: Pick<RunDetail, 'method' | 'baseline' | 'status'>, waits: boolean): string {
  if (method === denseMethod) return `Unpruned ${baseline ? 'baseline' : 'file'}: nothing is removed.`
  if (status !== 'running') return 'This run made no decisions.'
  return waits ? 'No decision yet. The run waits for memory.' : 'No decision yet. The method is still scoring.'
}

/** Formats the value of an option or of the environment for a list of facts. */
export function showValue(value: unknown): string {
  if (value === null || value === undefined) return '–'
  if (typeof value === 'object') return JSON.stringify(value)
  return String(value)
}
