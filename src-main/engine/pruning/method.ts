import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import type { JudgedExperts } from '#contract/pruning/experts.ts'
import type { GateTraining } from '#contract/pruning/gates.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { TokenRanking } from '#contract/pruning/token-ranking.ts'
import type { Outline } from '#contract/runs/request-preview.ts'
import type { Decision, Selection } from '#contract/runs/run.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { MethodId } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { StoredTensors, TensorsToStore } from '#engine/checkpoint/stored-tensors.ts'
import type { CountedText } from '#engine/data/count-tokens.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { StepRequest } from '#engine/steps/step-name.ts'
import type { Budget } from './budget.ts'
import type { Variant } from './search/trunk.ts'

/** Everything that a method may use of the run that calls it. */
export interface MethodRun {
  readonly seed: number
  readonly signal: AbortSignal
  /**
   * Returns the result of `compute`, which must be plain JSON. The result is stored before `step` returns. A resumed run then finds it, as
   * does every other run that needs the same result. `request.on` must hold everything that `compute` depends on besides the model, backend
   * and precision. Draw random numbers between steps, never inside one.
   */
  step<T>(request: StepRequest, compute: () => Promise<T> | T): Promise<T>
  /** Runs a step whose result also has named tensors. The tensors are written to a file and read when they are needed. */
  tensorStep<T extends object>(
    request: StepRequest,
    compute: () => Promise<T & { tensors: TensorsToStore }>,
  ): Promise<Omit<T, 'tensors'> & { tensors: StoredTensors }>
  progress(phase: string, done: number, total: number, unit: string): void
  emit(event: RunEvent): void
  /** Adds passes to the count that the run reports. */
  count(passes: PassCount): void
}

export interface MethodInput<Options> {
  /** The dense model, or one that was already pruned. Read-only. */
  readonly view: ModelView
  readonly calibration: Windows
  /** The counted tokens of the whole text, in place of windows, for a method that `readsAll`. */
  readonly counted?: CountedText
  readonly budget: Budget
  readonly options: Options
  readonly run: MethodRun
}

export interface MethodResult {
  readonly plan: Plan
  /** In the order in which the method made them. */
  readonly decisions: readonly Decision[]
  readonly selections?: readonly Selection[]
  /** Sentences for the user: about ties, limits, and defects of the reference that Espalier avoids. */
  readonly notes: readonly string[]
  /** Tensors that belong to the plan, such as rotations and replaced projections. Steps stored them. */
  readonly tensors?: StoredTensors
  /** The steps by which gates were trained. */
  readonly gates?: GateTraining
  /** The cost that the method predicts for its plan, in the unit of `budget.cost`. Present if it chose by cost. */
  readonly predicted?: number
  /** The amount that the options asked for, if they came before the budget. */
  readonly nominal?: number
  /** What other numbers of rows of the vocabulary would keep. */
  readonly ranking?: TokenRanking
  /** The numbers behind the choice of removed experts. */
  readonly experts?: JudgedExperts
}

/** The work of one phase of a method. */
export interface MethodPhase {
  /** The name under which the phase reports progress. */
  readonly phase: string
  /** How many windows pass through each kind of part. A pass through a cut part counts as the share of the part that remains. */
  readonly passes: PassCount
  /** Longer windows are cut to this many tokens. */
  readonly longest?: number
  /** Returns the number of float64 operations, given the tokens of a window. */
  readonly float64Operations?: (tokens: number) => number
  /** The number of float64 operations that find eigenvectors. */
  readonly eigenvectorOperations?: number
  /** Returns the number of float64 operations that set up and solve wide equations, given the tokens of a window. */
  readonly equationOperations?: (tokens: number) => number
  /** The number of rows that one call of a part typically processes. Default: as in a forward pass. */
  readonly rowsPerCall?: number
  /**
   * For a phase that chooses among candidates: `exactly` if it scores them all in float32 at once. Otherwise it ranks them by estimates
   * first, and `again` is the share that it then scores again in float32.
   */
  readonly choosing?: { readonly again: number } | 'exactly'
  /** A name for the work, if the runs of an experiment on one model share it. The first of these runs does it for all. */
  readonly shared?: string
}

/** A pruning method. It decides what to remove, but does not change the model. */
export interface Method<Schema extends z.ZodObject = z.ZodObject> {
  readonly id: MethodId
  /** Its position in lists, which also decides its colour in charts. A new method takes the next number and keeps it. */
  readonly order: number
  readonly title: string
  /** The arXiv number of its paper. For a method of our own, the paper that it builds on. */
  readonly paper: string
  /** Set for Espalier's own methods, which have no paper. */
  readonly own?: true
  /** One sentence for users. */
  readonly summary: string
  readonly unit: 'block' | 'submodule' | 'neurons and attention' | 'width' | 'experts' | 'vocabulary'
  readonly options: Schema
  /** Returns why its results cannot be repaired or recovered with these options, or undefined if they can. */
  refitProblem?(options: z.infer<Schema>): string | undefined
  /** Returns the number of calibration windows that it uses with these options. */
  windows(options: z.infer<Schema>): number
  /** Returns whether it counts the tokens of all of the text, unless the request says how many windows to use. */
  readsAll?(options: z.infer<Schema>): boolean
  /** Returns the sparsities that it can reach on this model with these options. */
  range(spec: DecoderSpec, options: z.infer<Schema>): { readonly least: number; readonly most: number }
  /** Returns how much a budget removes, before anything is computed. Default: whole blocks. Throws if the budget cannot be reached. */
  outline?(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>): Outline
  /**
   * Returns the work of each phase with this many calibration windows. Run times are estimated from it. How much work a search does depends
   * on the scores that it meets, so `countSearch` runs the search with invented scores and counts its passes.
   */
  work(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>, windows: number): MethodPhase[] | Promise<MethodPhase[]>
  /**
   * Returns the bytes that the method takes besides weights, embedding and head, given the tokens of a window and the model's
   * `workspaceBytes`. Default: those of a pass.
   */
  bytes?(spec: DecoderSpec, options: z.infer<Schema>, tokens: number, workspaceBytes: number): number
  /** Returns plans whose smallest and largest file sizes bound that of the result. Default: derived from the unit and the outline. */
  boundingPlans?(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>): Plan[]
  plan(input: MethodInput<z.infer<Schema>>): Promise<MethodResult>
}

/** Defines a method whose functions receive typed options. Callers must parse the options with the method's schema first. */
export function defineMethod<Schema extends z.ZodObject>(method: Method<Schema>): Omit<Method, 'options'> & { readonly options: Schema } {
  return method as unknown as Omit<Method, 'options'> & { readonly options: Schema }
}

/** How many windows passed attention submodules, MLPs and the head. */
export interface PassCount {
  attention: number
  mlp: number
  head: number
  /** Passes through attention or MLPs that remembered results replaced. */
  recalled?: number
}

/** Counts the passes of variants that share a branch until they differ, for one window. The path along `trunk` is not counted. */
export function sharedPasses(variants: readonly Variant[], trunk?: Variant): PassCount {
  const passes = { attention: 0, mlp: 0, head: 0 }
  const sorted = variants.toSorted((a, b) => Buffer.compare(a, b))
  for (const [index, variant] of sorted.entries()) {
    const others = [sorted[index - 1], trunk].flatMap((other) => (other ? commonParts(variant, other) : []))
    const first = Math.max(0, ...others)
    for (let part = first; part < variant.length; part++) if (variant[part] === 0) passes[part % 2 === 0 ? 'attention' : 'mlp']++
    if (first < variant.length) passes.head++
  }
  return passes
}

/** Returns the number of parts before the first one in which two variants differ. */
export function commonParts(a: Variant, b: Variant): number {
  const part = a.findIndex((bit, index) => bit !== b[index])
  return part < 0 ? a.length : part
}

/** Returns the passes of windows through `blocks` blocks. Pass a fraction of the windows to count a pruned model. */
export function stackPasses(blocks: number, windows: number, head = 0): PassCount {
  return { attention: windows * blocks, mlp: windows * blocks, head }
}

/** Cost of a pass that shows the inputs of its projections, relative to one that does not. Streams are kept and copied meanwhile. */
export const watched = 1.5

export function timesPasses({ attention, mlp, head }: PassCount, times: number): PassCount {
  return { attention: attention * times, mlp: mlp * times, head: head * times }
}

export function addPasses(...counts: readonly PassCount[]): PassCount {
  const sum = (key: keyof PassCount) => counts.reduce((total, count) => total + (count[key] ?? 0), 0)
  const recalled = sum('recalled')
  return { attention: sum('attention'), mlp: sum('mlp'), head: sum('head'), ...(recalled > 0 ? { recalled } : {}) }
}

/** The options of a method or an ablation. */
interface OptionOwner<Schema extends z.ZodObject = z.ZodObject> {
  readonly title: string
  readonly options: Schema
}

/** Returns an option that must be a whole number of at least 1. */
export const count = (defaultValue: number, meta: { title: string; help: string; unit?: string }) =>
  z.number().int().positive().default(defaultValue).meta(meta)

/** Returns the option that sets what the widths of MLPs are multiples of. */
export const widthUnit = (defaultValue: number) =>
  count(defaultValue, { title: 'Width unit', unit: 'neurons', help: 'Widths are multiples of this; quantised formats need 32.' })

/** Returns options with their defaults filled in. Throws `usage` with one sentence for each wrong field, and the fields in the details. */
export function parseOptions<Schema extends z.ZodObject>({ title, options }: OptionOwner<Schema>, given: unknown): z.infer<Schema> {
  const parsed = readWith(options.strict(), given)
  if (parsed.success) return parsed.data as z.infer<Schema>
  const known = Object.keys(options.shape).join(', ')
  const issues = explainIssues(parsed.error, given, (name) => `${title} has no option "${name}". It has: ${known}.`)
  throw new EspalierError('usage', issues.map(({ message }) => message).join(' '), { issues })
}
