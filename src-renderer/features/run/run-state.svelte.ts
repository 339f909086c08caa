import type { Input } from '#contract/api.ts'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { worthOf } from '#contract/comparison/verdict.ts'
import type { Verdict } from '#contract/comparison/verdict-sentence.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { KeptFile } from '#contract/exports/exports.ts'
import type { ModelDescription } from '#contract/models/models.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import type { SecondsRange } from '#contract/runs/time/estimate.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { denseMethod, isAblation, isInspection } from '#contract/titles.ts'
import { call, copyText, on, onMissed } from '../../api/api.ts'
import { type MapFrame, mapFrames } from '../../charts/model-map/model-map.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { announce, attempt, notify, notifyProblem } from '../../lib/notices.svelte.ts'
import { isTold } from '../../lib/queue.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { saveText, toFileName } from '../../lib/save-file.ts'
import { coalesce, stopAll } from '../../lib/schedule.ts'
import { type Phase, takeEvent, takeProgress } from './live-run.ts'

/** The repair or recovery that a clone adds. */
export type Treatment = Pick<RunRequest, 'repair' | 'recover'>

/** Props of the dialogs that make a repaired or recovered clone. */
export interface TreatmentProps {
  run: RunDetail
  open: boolean
  onclose: () => void
  estimate: (wanted: Treatment) => Promise<SecondsRange | null>
  onstart: (wanted: Treatment) => void
}

type RunAction = 'runs.pause' | 'runs.resume' | 'runs.cancel' | 'runs.retry' | 'runs.enqueue' | 'runs.archive' | 'runs.unarchive'

/** One run's page: the stored run, and its events while it runs. */
export class RunState {
  readonly id: string
  run = new Loader<RunDetail>()
  phases = $state.raw<Phase[]>([])
  log = $state('')
  /** The position of the scrubber; null follows the newest decision. */
  position = $state<number | null>(null)
  selected = $state<number | null>(null)
  acting = $state(false)
  /** The run that this one was made from, for comparison. */
  parent = $state.raw<RunDetail | null>(null)
  /** The dense model's run of the same experiment, for comparison. */
  baseline = $state.raw<ComparedRun | null>(null)
  /** The run of 2SSP in the same experiment, on the same model, at the same sparsity. A run of gates is shown beside it. */
  other = $state.raw<RunDetail | null>(null)
  /** Says that an unpruned file is better and no larger. Null if none is known to be; undefined until the first request. */
  refusal = $state.raw<Refusal | null | undefined>()
  /** What was saved from the run. */
  saved = $state.raw<KeptFile[]>([])
  #description = $state.raw<ModelDescription | null>(null)

  readonly description: ModelDescription | null = $derived(this.run.value?.modelDescription ?? this.#description)
  readonly frames: MapFrame[] = $derived.by(() => {
    const run = this.run.value
    return run && this.description ? mapFrames(this.description.blocks, run, this.description.shape.hidden) : []
  })
  readonly shown: number = $derived(this.position === null ? this.frames.length - 1 : Math.min(this.position, this.frames.length - 1))
  readonly #refreshSoon = coalesce(() => this.refresh(), 500)

  constructor(id: string) {
    this.id = id
  }

  follow(): () => void {
    this.refresh()
    return stopAll(
      on('run event', ({ run, recorded }) => run === this.id && this.#take(recorded.event)),
      on('run changed', ({ run, elsewhere }) => {
        if (run.id !== this.id) return
        const before = this.run.value?.status
        if (this.run.value) this.run.value = { ...this.run.value, ...run }
        if (before !== run.status && !isTold(before, run.status, elsewhere)) announce(`Run ${run.status}`)
        this.#refreshSoon()
      }),
      on('transfer changed', ({ transfer: { kind, status } }) => kind === 'export' && status === 'done' && void this.#loadSaved()),
      on('runs removed', ({ ids }) => {
        if (!ids.includes(this.id)) return
        this.run.value = null
        this.refresh()
      }),
      onMissed(() => this.refresh()),
    )
  }

  refresh(): void {
    void this.run.load(async () => {
      const run = await call('runs.get', { id: this.id })
      if (!run.modelDescription && !this.#description)
        this.#description = await call('models.get', { id: run.model.id }).then(
          ({ description }) => description,
          () => null,
        )
      if (run.parent !== null && this.parent?.id !== run.parent) this.parent = await call('runs.get', { id: run.parent }).catch(() => null)
      if (!run.baseline && this.baseline === null)
        this.baseline = await call('compare.get', { ids: [run.id] }).then(
          ({ baseline, runs }) => runs.find((other) => other.id === baseline && baseline !== run.id) ?? null,
          () => null,
        )
      if (run.method === 'gates' && run.experiment && !this.other) void this.#loadOther(run)
      if (run.hasPlan) void this.#loadSaved()
      if (this.refusal === undefined && run.status === 'done') void this.#loadRefusal(run)
      if (run.progress) this.#takeProgress(run.progress)
      return run
    })
  }

  async #loadOther({ experiment, model, nominal, seed }: RunDetail): Promise<void> {
    const conditions = [
      { field: 'modelId', is: 'equal' as const, value: model.id },
      { field: 'method', is: 'equal' as const, value: '2ssp' },
      { field: 'status', is: 'equal' as const, value: 'done' },
    ]
    const rows = await call('runs.query', { experiment: experiment?.id, conditions, limit: 100 }).then(
      (found) => found.rows,
      () => [],
    )
    const found = rows.filter((run) => run.nominal === nominal).sort((a, b) => Number(b.seed === seed) - Number(a.seed === seed))[0]
    if (found) this.other = await call('runs.get', { id: found.id }).catch(() => null)
  }

  async #loadRefusal(run: RunDetail): Promise<void> {
    this.refusal = null
    this.refusal = await findRefusal(run).catch(() => undefined)
  }

  async #loadSaved(): Promise<void> {
    this.saved = await call('runs.saved', { id: this.id }).catch(() => this.saved)
  }

  async loadLog(): Promise<void> {
    this.log = await call('runs.log', { id: this.id }).then(
      ({ text }) => text,
      (thrown) => toErrorMessage(thrown).message,
    )
  }

  async copyLog(): Promise<void> {
    await copyText(this.log)
    notify('Log copied')
  }

  async act(name: RunAction): Promise<void> {
    await this.#attempt(async () => {
      if (name === 'runs.archive') await this.#archive()
      else await call(name, { ids: [this.id] })
      if (name === 'runs.unarchive') notify('Run restored', { about: this.id })
      this.refresh()
    })
  }

  /** Undo returns a waiting run to its place in the queue. */
  async #archive(): Promise<void> {
    const { undo } = await call('runs.archive', { ids: [this.id] })
    const takeBack = () => void call('runs.undo', { undo: undo ?? '' }).then(() => this.refresh(), notifyProblem)
    notify('Run archived', { about: this.id, ...(undo === null ? {} : { undo: takeBack }) })
  }

  async update(changes: Omit<Input<'runs.update'>, 'ids'>): Promise<boolean> {
    const saved = await this.#attempt(() => call('runs.update', { ids: [this.id], ...changes }))
    this.refresh()
    return saved
  }

  /** Saves the run's description as a file, for running it elsewhere. */
  async describe(paths: boolean): Promise<void> {
    await this.#attempt(async () => {
      const description = await call('runs.describe', { id: this.id, paths })
      saveText({ fileName: toFileName(description.name, 'json'), type: 'application/json', content: JSON.stringify(description, null, 2) })
    })
  }

  /** Saves the table of an ablation as a file. */
  async saveStudy(format: Input<'runs.studyFile'>['format']): Promise<void> {
    await this.#attempt(async () => saveText(await call('runs.studyFile', { id: this.id, format })))
  }

  /** Returns how long a repair or recovery would take; null if no estimate is possible. Waits until this machine has been timed. */
  async estimateWith(changes: Treatment): Promise<SecondsRange | null> {
    const ask = async () => (await call('runs.estimate', { id: this.id, changes }))?.seconds ?? null
    // The first request may only start the timing. Listen before it, so that the end of the timing is not missed.
    const timing = timed()
    try {
      return (await ask()) ?? (await timing.done.then(ask))
    } catch {
      return null
    } finally {
      timing.stop()
    }
  }

  /** Makes a new run from this one, repaired or recovered. */
  async cloneWith(changes: Treatment): Promise<void> {
    await this.#attempt(async () => {
      const made = await call('runs.clone', { id: this.id, changes, start: 'queue' })
      notify(changes.repair ? 'Repair queued' : 'Recovery queued')
      router.go(['run', made.id])
    })
  }

  #take(event: RunEvent): void {
    const run = this.run.value
    if (event.type === 'progress') this.#takeProgress(event.progress)
    if (run) this.run.value = takeEvent(run, event)
  }

  #takeProgress(progress: Progress): void {
    this.phases = takeProgress(this.phases, progress)
  }

  async #attempt(action: () => Promise<unknown>): Promise<boolean> {
    this.acting = true
    const succeeded = await attempt(action)
    this.acting = false
    return succeeded
  }
}

/** `done` resolves the next time that the machine has been timed. `stop` ends the wait. */
function timed(): { done: Promise<void>; stop: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { done: promise, stop: on('engine changed', ({ engine }) => engine.selfTest && resolve()) }
}

/** Why an unpruned file is the better choice. */
export type Refusal = Pick<Verdict, 'parts'>

/**
 * Returns the verdict on a finished run if it says not to prune, otherwise null. Its rivals are the unpruned files of its model
 * whose perplexity was measured on no other texts than this run's.
 */
async function findRefusal({ id, method, model, measures }: RunDetail): Promise<Refusal | null> {
  if (method === denseMethod || isAblation(method) || isInspection(method)) return null
  const conditions = [
    { field: 'modelId', is: 'equal' as const, value: model.id },
    { field: 'method', is: 'equal' as const, value: denseMethod },
    { field: 'status', is: 'equal' as const, value: 'done' },
  ]
  const { rows } = await call('runs.query', { conditions, limit: 100 })
  const texts = textsOf(measures)
  const rivals = rows.filter((run) => textsOf(run.measures).every((text) => texts.includes(text)))
  if (rivals.length === 0) return null
  const ids = [id, ...rivals.map((rival) => rival.id)]
  // The baseline that the call may add is one of the rivals, or measured on other texts.
  const { runs } = await call('compare.get', { ids })
  const worth = worthOf(runs.filter((run) => ids.includes(run.id)))
  return worth.answer === 'do not prune' ? worth : null
}

const textsOf = (measures: RunEntry['measures']): string[] =>
  measures.flatMap(({ name, dataset }) => (name === 'perplexity' ? dataset : []))
