import type { MachineRate } from '#contract/machine/engine-state.ts'
import type { PhaseWork, RunEstimate, SecondsRange, TimedPhase, Work } from '#contract/runs/time/estimate.ts'
import { openPart } from '#contract/runs/time/progress.ts'

/**
 * How many times shorter or longer a part may take than estimated: without finished runs of the model that tell, with runs whose passes
 * through the model tell how fast others are, and with runs that did the same. Passes were off by up to 1.24 to 1.49 (`npm run bench --
 * estimate`).
 */
const unknownFactor = 2
const carriedFactor = 1.4
const knownFactor = 1.3
/** A range is no wider than a factor of two once a run of the model is finished. */
const laterFactor = Math.SQRT2
/**
 * Seconds that are added to the real and the expected time of a part before their ratio predicts other parts. A part of less than a few
 * seconds then counts little, because one-time work of the process dominates it.
 */
const startSeconds = 1

/** A finished run's work, and the seconds of each part. */
export interface FinishedRun {
  readonly method: string
  /** The experiment that it belongs to. */
  readonly experiment?: string | null
  readonly work: Work
  readonly seconds: Readonly<Record<string, number>>
}

/** Returns a machine's rates for a model width, interpolated between the timed widths on a logarithmic scale. */
export function rateFor(rates: readonly MachineRate[], hidden: number): MachineRate {
  const sorted = [...rates].sort((a, b) => a.hidden - b.hidden)
  const above = sorted.find((rate) => rate.hidden >= hidden) ?? (sorted.at(-1) as MachineRate)
  const below = sorted.findLast((rate) => rate.hidden <= hidden) ?? above
  const share = above.hidden === below.hidden ? 0 : Math.log(hidden / below.hidden) / Math.log(above.hidden / below.hidden)
  const between = Object.entries(above).map(([key, rate]) => [key, below[key as keyof MachineRate] ** (1 - share) * rate ** share])
  return { ...(Object.fromEntries(between) as MachineRate), hidden }
}

/** A phase with the part of its seconds that passes through the model and quantising take. */
type RatedPhase = TimedPhase & { readonly passes: number }

/** Returns the seconds of each phase by the machine's rates alone. */
function timePhases({ hidden, phases }: Work, rates: readonly MachineRate[]): RatedPhase[] {
  const rate = rateFor(rates, hidden)
  return phases.map(({ phase, part, shared, ...own }) => {
    const products = own.attention / rate.attention + own.mlp / rate.mlp + own.head / rate.head
    const passes = timeOfProducts(own.faster, rate) * products + own.calls * rate.call + own.stored / rate.stored
    const algebra = own.double / rate.double + own.vectors / rate.vectors + own.solved / rate.solved
    const seconds = own.seconds + passes + algebra + own.decoded / rate.decoded
    return { phase, part, seconds, passes, ...(shared === undefined ? {} : { shared }) }
  })
}

/** Returns the time of products as a share of their time in float32. */
function timeOfProducts(faster: PhaseWork['faster'] = [], rate: MachineRate): number {
  return faster.reduce((left, { products, share }) => left - share + share / rate[products], 1)
}

/**
 * How many times as long as the rates predict each part took in finished runs. Runs of the same method are used if there are any, else the
 * same part of other methods, else other parts.
 */
export class Experience {
  readonly #ratios: readonly {
    readonly method: string
    readonly experiment: string | null
    readonly part: string
    readonly ratio: number
    readonly pace: number
  }[]
  /** Whether finished runs passed through the model for long enough to tell how fast other passes are. */
  readonly carries: boolean
  /** Whether there are finished runs. */
  readonly begun: boolean

  /** @param runs latest first */
  constructor(runs: readonly FinishedRun[], rates: readonly MachineRate[]) {
    const done = new Set<string>()
    let passed = 0
    this.begun = runs.length > 0
    this.#ratios = runs.toReversed().flatMap(({ method, experiment = null, work, seconds }) => {
      const parts = Map.groupBy(timePhases(work, rates), ({ part }) => part)
      return [...parts].flatMap(([part, phases]) => {
        // How long it takes to find what another run did says nothing.
        const isFound = phases.some(({ shared }) => shared !== undefined && done.has(shared))
        for (const { shared } of phases) if (shared !== undefined) done.add(shared)
        const expected = sumSeconds(phases)
        const took = seconds[part]
        if (isFound || took === undefined || expected <= 0 || took <= 0) return []
        passed += took * (phases.reduce((sum, { passes }) => sum + passes, 0) / expected)
        return [{ method, experiment, part, ratio: took / expected, pace: (took + startSeconds) / (expected + startSeconds) }]
      })
    })
    this.carries = passed >= startSeconds
  }

  /**
   * Returns the factor for a part of a method, from runs of the same experiment if there are any. `known` is false if it was derived from
   * other parts.
   */
  of(method: string, part: string, experiment: string | null): { ratio: number; known: boolean } {
    const all = this.#ratios.filter((one) => one.part === part)
    const [here, ofMethod] = [all.filter((one) => one.experiment === experiment), all.filter((one) => one.method === method)]
    const same = here.length > 0 ? here : all
    const ownHere = here.filter((one) => one.method === method)
    const own = ownHere.length > 0 ? ownHere : ofMethod
    // Loading and reading text do not reflect the model's speed.
    const running = this.#ratios.filter((one) => one.part !== openPart && one.part !== 'reading text')
    const ratioOf = (some: typeof same) => median(some.map(({ ratio }) => ratio))
    if (part === openPart || part === 'reading text') return { ratio: ratioOf(same), known: same.length > 0 }
    if (own.length > 0) return { ratio: ratioOf(own), known: true }
    if (same.length > 0 && part !== 'pruning') return { ratio: ratioOf(same), known: true }
    // Other parts ran on the same machine but with other operations, so the square root of their factor is used.
    return { ratio: Math.sqrt(median((same.length > 0 ? same : running).map(({ pace }) => pace))), known: false }
  }
}

function median(ratios: readonly number[]): number {
  const sorted = ratios.toSorted((a, b) => a - b)
  return sorted.length === 0
    ? 1
    : ((sorted[Math.floor((sorted.length - 1) / 2)] as number) + (sorted[Math.floor(sorted.length / 2)] as number)) / 2
}

/** Estimates a run from its work, the machine's rates and finished runs of its model. */
export function estimateRun(
  method: string,
  work: Work,
  rates: readonly MachineRate[],
  experience: Experience,
  experiment: string | null = null,
): Omit<RunEstimate, 'run'> {
  const phases = timePhases(work, rates).map((phase) => {
    const { ratio, known } = experience.of(method, phase.part, experiment)
    return { ...phase, seconds: phase.seconds * ratio, passes: phase.passes * ratio, known }
  })
  const likely = sumSeconds(phases)
  const certain = sumSeconds(phases.filter(({ known }) => known))
  const carried = experience.carries ? phases.reduce((sum, { known, passes }) => sum + (known ? 0 : passes), 0) : 0
  const unknown = likely - certain - carried
  const weighed = likely === 0 ? 1 : (certain * knownFactor + carried * carriedFactor + unknown * unknownFactor) / likely
  const factor = experience.begun ? Math.min(weighed, laterFactor) : weighed
  return {
    phases: phases.map(({ known: _, passes: __, ...phase }) => phase),
    seconds: { low: likely / factor, likely, high: likely * factor },
    basis: certain + carried > likely / 2 ? 'runs' : 'machine',
  }
}

export function sumSeconds(phases: readonly { readonly seconds: number }[]): number {
  return phases.reduce((sum, { seconds }) => sum + seconds, 0)
}

/** Returns the estimate without one part. */
export function withoutPart(estimate: Omit<RunEstimate, 'run'>, part: string): Omit<RunEstimate, 'run'> {
  return withPhases(
    estimate,
    estimate.phases.map((phase) => (phase.part === part ? { ...phase, seconds: 0 } : phase)),
  )
}

/** Subtracts the seconds of shared steps in `done` from the estimate, and adds this run's shared steps to `done`. */
export function withoutShared(estimate: Omit<RunEstimate, 'run'>, scope: string, done: Map<string, number>): Omit<RunEstimate, 'run'> {
  const phases = estimate.phases.map((phase) => {
    if (phase.shared === undefined) return phase
    const key = `${scope} ${phase.shared}`
    const paid = done.get(key) ?? 0
    done.set(key, Math.max(paid, phase.seconds))
    return { ...phase, seconds: Math.max(0, phase.seconds - paid) }
  })
  return withPhases(estimate, phases)
}

/** Replaces the phases of an estimate, and scales its range by the change of their total. */
function withPhases(estimate: Omit<RunEstimate, 'run'>, phases: RunEstimate['phases']): Omit<RunEstimate, 'run'> {
  const before = sumSeconds(estimate.phases)
  const after = sumSeconds(phases)
  const scale = (seconds: number) => (before === 0 ? 0 : (seconds * after) / before)
  const { low, likely, high } = estimate.seconds
  const seconds: SecondsRange = { low: scale(low), likely: scale(likely), high: scale(high) }
  return { ...estimate, phases, seconds }
}
