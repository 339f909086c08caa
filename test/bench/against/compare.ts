import { isDeepStrictEqual } from 'node:util'
import type { PassCount } from '#engine/pruning/search/passes.ts'
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

interface Comparison {
  readonly method: string
  readonly options: Record<string, number>
  readonly opening: object
  readonly ours: Side
  readonly reference: Side
  readonly blocks: number
  readonly repeats: number
}

/** Runs a method on both sides, taking turns step by step; methods with a single step are repeated. */
export async function compareMethod(comparison: Comparison): Promise<MethodReport> {
  const { method, options, opening, ours, reference, blocks } = comparison
  const { weightBytes } = await ours.ask(opening)
  const steps: StepTimes[] = []
  const [extraOurs, extraReference] = [[], []] as number[][]
  const rates: number[] = []
  let outcomes: [Outcome, Outcome] | undefined
  const repeats = /^(shortgpt|window_based|slicegpt)/.test(method) ? comparison.repeats : 1
  for (let repeat = 0; repeat < repeats; repeat++) {
    rates.push((await ours.ask({ command: 'rate' })).rate as number)
    await Promise.all([ours.start(method, options), reference.start(method, options)])
    while (!ours.outcome || !reference.outcome) {
      await reference.goOn()
      await ours.goOn()
    }
    outcomes = [ours.outcome, reference.outcome]
    pairSteps(ours, reference, steps, extraOurs as number[], extraReference as number[])
  }
  const [own, theirs] = outcomes as [Outcome, Outcome]
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)
  const seconds = {
    ours: sum([...steps.map((step) => step.ours), ...(extraOurs as number[])]) / repeats,
    reference: sum([...steps.map((step) => step.reference), ...(extraReference as number[])]) / repeats,
  }
  const ratio = seconds.reference / seconds.ours
  // Methods that share a step have fewer steps than the reference: there is nothing to pair.
  const ratios = method.includes('+') ? [ratio] : steps.map((step) => step.reference / step.ours)
  const rate = Math.max(...rates)
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
    weightBytes: weightBytes as number,
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
function pairSteps(ours: Side, reference: Side, steps: StepTimes[], extraOurs: number[], extraReference: number[]): void {
  const [own, theirs] = [[...ours.steps], [...reference.steps]]
  const common = Math.min(own.length, theirs.length)
  extraOurs.push(...own.slice(0, own.length - common).map(([, seconds]) => seconds))
  extraReference.push(...theirs.slice(0, theirs.length - common).map(([, seconds]) => seconds))
  const aligned = own.slice(own.length - common)
  theirs.slice(theirs.length - common).forEach(([step, seconds], index) => {
    steps.push({ step, ours: (aligned[index] as [string, number])[1], reference: seconds })
  })
}
