import type { z } from 'zod'
import type { JudgedExperts } from '#contract/pruning/experts.ts'
import type { Fit } from '#contract/pruning/fit.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import type { Outline } from '#contract/runs/preflight.ts'
import type { Decision, Selection } from '#contract/runs/run.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { MethodId } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { StoredTensors, TensorsToStore } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { StepRequest } from '#engine/steps/step-name.ts'
import type { Budget } from './budget.ts'
import type { PassCount } from './search/passes.ts'

/** What a method may use of its run. */
export interface MethodRun {
  readonly seed: number
  readonly signal: AbortSignal
  /**
   * The result of `compute`: plain JSON, stored before this returns, so that a resumed run finds it, and so does every run that needs the
   * same. `asked.on` must hold everything that `compute` depends on besides the model, backend and precision. Draw random numbers between
   * steps, never inside.
   */
  step<T>(asked: StepRequest, compute: () => Promise<T> | T): Promise<T>
  /** A step whose result also has named tensors. They are written to a file and read when needed. */
  tensorStep<T extends object>(
    asked: StepRequest,
    compute: () => Promise<T & { tensors: TensorsToStore }>,
  ): Promise<Omit<T, 'tensors'> & { tensors: StoredTensors }>
  progress(phase: string, done: number, total: number, unit: string): void
  emit(event: RunEvent): void
  /** Adds to the count of passes that the run reports. */
  count(passes: PassCount): void
}

export interface MethodInput<Options> {
  /** The dense model, or one that was already pruned. Read-only. */
  readonly view: ModelView
  readonly calibration: Windows
  readonly budget: Budget
  readonly options: Options
  readonly run: MethodRun
}

export interface MethodResult {
  readonly plan: Plan
  /** In the order in which they were made. */
  readonly decisions: readonly Decision[]
  readonly selections?: readonly Selection[]
  /** What a careful reader should know: ties, repairs, limits. */
  readonly notes: readonly string[]
  /** Tensors of the plan, from steps: rotations, replaced projections. */
  readonly tensors?: StoredTensors
  /** The numbers that decided fitted widths. */
  readonly fit?: Fit
  /** The cost that the method predicted, if it chose by cost. */
  readonly predicted?: number
  /** What decided which experts were removed. */
  readonly experts?: JudgedExperts
}

/** What one phase of a method has to do. */
export interface MethodPhase {
  /** The name of its progress. */
  readonly phase: string
  /** Full windows that pass a part. For parts that lost something, the remaining share counts. */
  readonly passes: PassCount
  /** Windows pass only with so many tokens, if they have more. */
  readonly longest?: number
  /** Operations in float64, with windows of `tokens`. */
  readonly double?: (tokens: number) => number
  /** Operations for eigenvectors, in float64. */
  readonly vectors?: number
  /** Rows that usually pass a part together, if that is not the number of a forward pass. */
  readonly rowsPerCall?: number
  /**
   * For a phase that chooses among candidates: the share that is scored again in float32 after estimates ranked them, or `exactly` if all
   * are scored in float32 only.
   */
  readonly choosing?: { readonly again: number } | 'exactly'
  /** Names work that the runs of one experiment on one model do only once. */
  readonly shared?: string
}

/** A pruning method: it decides, and changes nothing. */
export interface Method<Schema extends z.ZodObject = z.ZodObject> {
  readonly id: MethodId
  /** Its place in lists, which decides its colour in charts. A new method takes the next number and keeps it. */
  readonly order: number
  readonly title: string
  /** arXiv number of its paper, or of the one that Espalier's own method builds on. */
  readonly paper: string
  /** Set for Espalier's own methods, which are not published. */
  readonly own?: true
  /** One sentence for users. */
  readonly summary: string
  readonly unit: 'block' | 'submodule' | 'neurons and attention' | 'width' | 'experts'
  readonly options: Schema
  /** Options of earlier versions, and why they were removed. Requests may still name them; they are ignored. */
  readonly retired?: Readonly<Record<string, string>>
  /** The default repair of its runs. */
  readonly repair?: RepairKind
  /** Why its results cannot be repaired or recovered with these options; undefined if they can. */
  refitProblem?(options: z.infer<Schema>): string | undefined
  /** The number of calibration windows that it uses with these options. */
  windows(options: z.infer<Schema>): number
  /** The sparsities that this model allows, with these options. */
  range(spec: DecoderSpec, options: z.infer<Schema>): { readonly least: number; readonly most: number }
  /**
   * What a budget amounts to before anything is computed; whole blocks unless the method says otherwise. Throws if it cannot be reached.
   */
  outline?(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>): Outline
  /**
   * The work of each phase with this many calibration windows, from which times are estimated. A search does not predict it: `countSearch`
   * runs the search with a scorer that counts.
   */
  work(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>, windows: number): MethodPhase[] | Promise<MethodPhase[]>
  /** The extremes that the result's file sizes lie between. Without it, they follow from the unit and the outline. */
  likely?(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>): Plan[]
  plan(input: MethodInput<z.infer<Schema>>): Promise<MethodResult>
}

/** Ties a method's options to the types of its functions; callers parse options with its schema first. */
export function defineMethod<Schema extends z.ZodObject>(method: Method<Schema>): Omit<Method, 'options'> & { readonly options: Schema } {
  return method as unknown as Omit<Method, 'options'> & { readonly options: Schema }
}
