import { z } from 'zod'
import type { MachineRate } from '#contract/machine/engine-state.ts'
import { mixedBudget } from '#contract/runs/amount-text.ts'
import { pruningSeconds } from '#contract/runs/measures.ts'
import { mostShown } from '#contract/runs/queue.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { beginLabel } from '#contract/runs/step-names.ts'
import { type NoEstimate, type RunEstimate, type Work, work } from '#contract/runs/time/estimate.ts'
import { timingPart } from '#contract/runs/time/progress.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { missingModel } from '#jobs/run-actions.ts'
import type { Context } from '../context.ts'
import { askDesk } from '../machine/ask-desk.ts'
import type { Library } from '../models/library.ts'
import { Experience, estimateRun, type FinishedRun, withoutPart, withoutShared } from './estimate-seconds.ts'

/** How many finished runs of a model are used, latest first. */
const mostRuns = 24

/** Returns the machine's rates; null while they are unknown. */
type AskRates = () => MachineRate[] | null

/** Converts the work of a run to time. Runs of its experiment count most. */
type Estimate = (method: string, own: Work, experiment?: string | null) => Omit<RunEstimate, 'run'>

/** Estimates durations from the work of each method, this machine's rates, and earlier runs of the same model. */
export class Estimates {
  readonly #context: Context
  readonly #library: Library
  readonly #rates: AskRates
  /** The work of runs in the history; null if it cannot be determined. It never changes for the same content of a model. */
  readonly #works = new Map<string, Work | null>()

  constructor(context: Context, library: Library, rates: AskRates) {
    this.#context = context
    this.#library = library
    this.#rates = rates
  }

  /** Returns a function that converts the work of a model's runs to time; undefined until the machine has been timed. */
  async forModel(model: string, signal?: AbortSignal): Promise<Estimate | undefined> {
    const rates = this.#rates()
    if (!rates) return undefined
    const experience = new Experience(await this.#finished(model, signal), rates)
    // What was measured on the begin token when the model was added, or by a run, is found by others.
    const isMeasured = this.#context.history.models.find(model)?.beginFigures?.step !== undefined
    return (method, { hidden, phases }, experiment = null) => {
      const left = isMeasured ? phases.filter(({ part }) => part !== beginLabel) : phases
      return estimateRun(method, { hidden, phases: left }, rates, experience, experiment)
    }
  }

  /** Estimates the listed runs of the queue, in order. A step that runs of an experiment share counts for the first of them. */
  async ofQueue(signal?: AbortSignal): Promise<(RunEstimate | NoEstimate)[]> {
    const { history } = this.#context
    const all = [...history.queue.running(), ...history.queue.next(mostShown)]
    const missing = new Map(
      all.flatMap((row) => {
        const problem = missingModel(history, row)?.message
        return problem === undefined ? [] : [[row.id, { run: row.id, problem }] as const]
      }),
    )
    const rows = all.filter(({ id }) => !missing.has(id))
    await this.#learn(rows, signal)
    const models = new Map<string, Estimate | undefined>()
    for (const { model } of rows) if (!models.has(model)) models.set(model, await this.forModel(model, signal))
    const done = this.#sharedDone(rows, models)
    return all.flatMap((row): (RunEstimate | NoEstimate)[] => {
      const none = missing.get(row.id)
      if (none) return [none]
      const estimate = models.get(row.model)
      const own = this.#works.get(workKey(row))
      if (!estimate || !own) return []
      const left = withoutShared(estimate(row.method, own, row.experiment), this.#scopeOf(row), done)
      return [{ run: row.id, ...this.#partsDone(row).reduce(withoutPart, left) }]
    })
  }

  /**
   * Estimates a clone of a run with another request, without the parts that the run already finished. Null until the machine has been
   * timed.
   */
  async ofClone(row: RunRow, request: RunRequest, signal?: AbortSignal): Promise<Omit<RunEstimate, 'run'> | null> {
    const estimate = await this.forModel(row.model, signal)
    const [own] = await this.#ask([request], signal)
    if (!estimate || !own) return null
    const done = this.#sharedDone([row], new Map([[row.model, estimate]]))
    const left = withoutShared(estimate(request.method, own, row.experiment), this.#scopeOf(row), done)
    return (this.#didPrune(row, request) ? this.#partsDoneBy(row, request) : []).reduce(withoutPart, left)
  }

  /** Returns the seconds of shared steps that finished runs of the same experiments have already done. */
  #sharedDone(rows: readonly RunRow[], models: ReadonlyMap<string, Estimate | undefined>): Map<string, number> {
    const done = new Map<string, number>()
    const experiments = new Set(rows.flatMap(({ experiment }) => experiment ?? []))
    for (const experiment of experiments) {
      for (const row of this.#context.history.runs.ofExperiment(experiment)) {
        const own = this.#works.get(workKey(row))
        if (row.status === 'done' && own)
          withoutShared(models.get(row.model)?.(row.method, own, row.experiment) ?? empty, this.#scopeOf(row), done)
      }
    }
    return done
  }

  /** Returns the model's fingerprint in its latest finished run. Runs with another fingerprint do not predict the next one. */
  #contentOf(model: string): string | null {
    return this.#context.history.runs.latestDone(model, 1)[0]?.fingerprint ?? null
  }

  /** Returns the scope in which runs share steps: one experiment, on one model with one fingerprint. */
  #scopeOf({ id, experiment, model, fingerprint }: RunRow): string {
    return experiment === null ? id : `${experiment}/${model}/${fingerprint ?? this.#contentOf(model)}`
  }

  /** Returns the parts that are already done, because the run that this one was made from did the same pruning. */
  #partsDone(row: RunRow): string[] {
    const { history } = this.#context
    const own = history.documents.request(row.number)
    const parent = row.parent === null ? undefined : history.runs.find(row.parent)
    return parent?.model === row.model && this.#didPrune(parent, own) ? this.#partsDoneBy(parent, own) : []
  }

  #partsDoneBy(parent: RunRow, { repair, recover }: RunRequest): string[] {
    if (!repair && !recover) return []
    const before = this.#context.history.documents.request(parent.number).repair
    return ['pruning', ...(repair && JSON.stringify(before) === JSON.stringify(repair) ? ['repair'] : [])]
  }

  #didPrune(row: RunRow, request: RunRequest): boolean {
    if (row.status !== 'done' || row.fingerprint !== this.#contentOf(row.model)) return false
    return pruningOf(this.#context.history.documents.request(row.number)) === pruningOf(request)
  }

  async #finished(model: string, signal?: AbortSignal): Promise<FinishedRun[]> {
    const { history } = this.#context
    const content = this.#contentOf(model)
    const rows = history.runs.latestDone(model, mostRuns).filter(({ fingerprint }) => fingerprint === content)
    await this.#learn(rows, signal)
    return rows.flatMap((row) => {
      const own = this.#works.get(workKey(row))
      const { phaseSeconds, request } = history.documents.find(row.number)
      if (!own) return []
      const { pruning: _, [timingPart]: timing = 0, ...others } = phaseSeconds
      // The pruning of a run that divides bytes between parts and bits includes the choice of types, which is a part of its own.
      const pruning = mixedBudget(request.amount) ? null : pruningSeconds(phaseSeconds)
      return [
        {
          method: row.method,
          experiment: row.experiment,
          work: own,
          seconds: pruning === null ? others : { ...others, [timingPart]: timing, pruning: pruning - timing },
        },
      ]
    })
  }

  /** Asks the desk for the work of runs that is not known yet. */
  async #learn(rows: readonly RunRow[], signal?: AbortSignal): Promise<void> {
    const { history } = this.#context
    const unknown = rows.filter((row) => !this.#works.has(workKey(row)))
    if (unknown.length === 0) return
    const requests = unknown.map((row) => ({ ...history.documents.request(row.number), model: this.#library.find(row.model).path }))
    const found = await this.#ask(requests, signal)
    for (const [at, row] of unknown.entries()) this.#works.set(workKey(row), found[at] ?? null)
  }

  /** The work of requests whose models are paths; null for each that cannot be determined. */
  async #ask(requests: RunRequest[], signal?: AbortSignal): Promise<(Work | null)[]> {
    return z.array(work.nullable()).parse(await askDesk(this.#context.desk, { kind: 'work', requests }, signal))
  }
}

const empty = { phases: [], seconds: { low: 0, likely: 0, high: 0 }, basis: 'machine' as const }

const workKey = ({ id, fingerprint }: RunRow): string => `${id} ${fingerprint}`

/** Returns a key of the settings that determine what a run removes, without those of repair, recovery and measures. */
function pruningOf({ method, amount, options, seed, calibration, localFolder }: RunRequest): string {
  return JSON.stringify([method, amount, options, seed, calibration, localFolder])
}
