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

/** What a method may ask of the run that it is part of. */
export interface MethodRun {
  readonly seed: number
  readonly signal: AbortSignal
  /**
   * The result of `compute`, which is plain JSON and is written down before this returns: a run that was killed finds it again, and so does
   * every run that asks for the same. `asked.on` must hold all that `compute` depends on besides the model, backend and precision.
   * Randomness must be drawn between steps, not inside.
   */
  step<T>(asked: StepRequest, compute: () => Promise<T> | T): Promise<T>
  /** A step whose result has, besides plain JSON, named tensors: they are written to a file, and read from it when asked for. */
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
  /** The dense model, or one that was pruned before; read-only. */
  readonly view: ModelView
  readonly calibration: Windows
  readonly budget: Budget
  readonly options: Options
  readonly run: MethodRun
}

export interface MethodResult {
  readonly plan: Plan
  /** In the order in which they were taken. */
  readonly decisions: readonly Decision[]
  readonly selections?: readonly Selection[]
  /** What a careful reader should know: ties, repairs, limits. */
  readonly notes: readonly string[]
  /** Tensors of the plan, from steps: rotations, replaced projections. */
  readonly tensors?: StoredTensors
  /** The numbers that fitted widths were decided by. */
  readonly fit?: Fit
  /** The cost that the method counted with, where it chose by cost. */
  readonly predicted?: number
  /** What the experts of mixtures were judged by. */
  readonly experts?: JudgedExperts
}

/** What one phase of a method has to do. */
export interface MethodPhase {
  /** The name of its progress. */
  readonly phase: string
  /** Whole windows that pass a part; of parts that lost something, the share that is left counts. */
  readonly passes: PassCount
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
  /** Its place in lists, and so its colour in charts. A new method takes the next number, and keeps it. */
  readonly order: number
  readonly title: string
  /** arXiv number of its paper, or of the one that a method of Espalier's own builds on. */
  readonly paper: string
  /** Not published: of Espalier's own. */
  readonly own?: true
  /** One sentence for people. */
  readonly summary: string
  readonly unit: 'block' | 'submodule' | 'neurons and attention' | 'width' | 'experts'
  readonly options: Schema
  /** Options of earlier versions and why they went. Requests may still name them; they are ignored. */
  readonly retired?: Readonly<Record<string, string>>
  /** The repair of its runs unless the request says otherwise. */
  readonly repair?: RepairKind
  /** Why its results cannot be repaired or recovered with these options; undefined where they can. */
  refitProblem?(options: z.infer<Schema>): string | undefined
  /** Calibration windows that it wants with these options. */
  windows(options: z.infer<Schema>): number
  /** The sparsities that this model allows, with these options. */
  range(spec: DecoderSpec, options: z.infer<Schema>): { readonly least: number; readonly most: number }
  /** What a budget comes to before anything is computed; whole blocks unless the method says otherwise. Throws when it cannot be reached. */
  outline?(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>): Outline
  /**
   * What each phase has to do, with this many calibration windows: what time is estimated from. A search does not predict it: `countSearch`
   * runs it with a scorer that counts.
   */
  work(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>, windows: number): MethodPhase[] | Promise<MethodPhase[]>
  /** Plans between which the result will lie as far as its formats go; without it they follow from the unit and the outline. */
  likely?(spec: DecoderSpec, budget: Budget, options: z.infer<Schema>): Plan[]
  plan(input: MethodInput<z.infer<Schema>>): Promise<MethodResult>
}

/** Ties a method's options to the types of its functions; callers parse options with its schema first. */
export function defineMethod<Schema extends z.ZodObject>(method: Method<Schema>): Omit<Method, 'options'> & { readonly options: Schema } {
  return method as unknown as Omit<Method, 'options'> & { readonly options: Schema }
}
