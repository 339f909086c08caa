import { isDeepStrictEqual } from 'node:util'
import type { PassCount } from '#engine/pruning/method.ts'
import { expectedPasses } from './passes.ts'
import type { Outcome, Side } from './side.ts'

export interface StepTimes {
  readonly step: string
  readonly ours: number
  readonly reference: number
}

export interface MethodReport {
  readonly method: string
  readonly options: object
  readonly ours: number
  readonly reference: number
  readonly ratio: number
  /** Smallest and largest ratio over the steps that both have. */
  readonly spread: readonly [number, number]
  readonly steps: readonly StepTimes[]
  readonly selectionsEqual: boolean
  readonly passes: PassCount | undefined
  readonly expectedPasses: PassCount | undefined
  /** The products' rate over stage 1 as a share of the bare product's, and the latter in GFLOP/s. */
  readonly share: number | undefined
  readonly rate: number
  readonly peakBytes: number
  readonly referencePeakBytes: number
  readonly weightBytes: number
  readonly rescored: readonly number[]
}

/** Two sides whose times and choices are compared. */
export interface Pair {
  readonly ours: Side
  readonly reference: Side
  readonly weightBytes: number
}

interface Comparison {
  readonly method: string
  readonly options: Record<string, number>
  readonly pairs: readonly Pair[]
  readonly blocks: number
  readonly repeats: number
}

/** Runs a method on all sides, taking turns step by step; methods with a single step are repeated. Returns a report for each pair. */
export async function compareMethod({ method, options, pairs, blocks, repeats: most }: Comparison): Promise<MethodReport[]> {
  const sides = [...new Set(pairs.flatMap(({ ours, reference }) => [reference, ours]))]
  const times = pairs.map(() => ({ steps: [] as StepTimes[], ours: [] as number[], reference: [] as number[] }))
  const rates: number[] = []
  const repeats = /^(shortgpt|window_based|slicegpt)/.test(method) ? most : 1
  for (let repeat = 0; repeat < repeats; repeat++) {
    rates.push((await (pairs[0] as Pair).ours.ask({ command: 'rate' })).rate as number)
    await Promise.all(sides.map((side) => side.start(method, options)))
    while (sides.some(({ outcome }) => !outcome)) for (const side of sides) await side.goOn()
    for (const [index, { ours, reference }] of pairs.entries()) pairSteps(ours, reference, times[index] as StepTimesOfPair)
  }
  return pairs.map((pair, index) =>
    reportOf({ method, options, blocks, repeats, rate: Math.max(...rates) }, pair, times[index] as StepTimesOfPair),
  )
}

/** Steps that both sides have, and the seconds of those that only one has. */
interface StepTimesOfPair {
  readonly steps: StepTimes[]
  readonly ours: number[]
  readonly reference: number[]
}

interface Measured extends Omit<Comparison, 'pairs'> {
  readonly rate: number
}

function reportOf(
  { method, options, blocks, repeats, rate }: Measured,
  { ours, reference, weightBytes }: Pair,
  { steps, ...extra }: StepTimesOfPair,
): MethodReport {
  const [own, theirs] = [ours.outcome, reference.outcome] as [Outcome, Outcome]
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)
  const seconds = {
    ours: sum([...steps.map((step) => step.ours), ...extra.ours]) / repeats,
    reference: sum([...steps.map((step) => step.reference), ...extra.reference]) / repeats,
  }
  const ratio = seconds.reference / seconds.ours
  // Methods that share a step have fewer steps than the reference, and SliceGPT has more: there is nothing to pair.
  const ratios = method.includes('+') || extra.ours.length > 0 ? [ratio] : steps.map((step) => step.reference / step.ours)
  return {
    method,
    options,
    ...seconds,
    ratio,
    spread: [Math.min(...ratios), Math.max(...ratios)],
    steps,
    selectionsEqual: areEqual(own.result, theirs.result),
    passes: own.passes,
    // A mixed run passes what it scores again twice.
    expectedPasses: own.rescored?.length ? undefined : expectedPasses(method, { blocks }, own),
    share: own.stageOneProducts ? own.stageOneProducts / 1e9 / (steps[0]?.ours ?? Number.NaN) / rate : undefined,
    rate,
    peakBytes: own.peakBytes,
    referencePeakBytes: theirs.peakBytes,
    weightBytes,
    rescored: own.rescored ?? [],
  }
}

/** SliceGPT selects no submodules: its models are equal if they have the same width and loss. */
function areEqual(own: unknown, theirs: unknown): boolean {
  if (isDeepStrictEqual(own, theirs)) return true
  const [a, b] = [own, theirs] as { width?: number; loss?: number }[]
  if (a?.loss === undefined || b?.loss === undefined) return false
  return a.width === b.width && Math.abs(a.loss - b.loss) < 1e-4 * b.loss
}

/** Pairs the steps of both sides, counted from the end: the reference may have preparing steps first. */
function pairSteps(ours: Side, reference: Side, times: StepTimesOfPair): void {
  const [own, theirs] = [[...ours.steps], [...reference.steps]]
  const common = Math.min(own.length, theirs.length)
  times.ours.push(...own.slice(0, own.length - common).map(([, seconds]) => seconds))
  times.reference.push(...theirs.slice(0, theirs.length - common).map(([, seconds]) => seconds))
  const aligned = own.slice(own.length - common)
  theirs.slice(theirs.length - common).forEach(([step, seconds], index) => {
    times.steps.push({ step, ours: (aligned[index] as [string, number])[1], reference: seconds })
  })
}
