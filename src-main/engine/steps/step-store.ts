import type { TensorFile } from '#contract/pruning/plan.ts'
import type { StepName } from './step-name.ts'

/** A stored step: its JSON, and its tensor file if it has one. */
export interface StepResult {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** False if another run computed it; otherwise this run did. */
  readonly own?: boolean
}

/** Where results of steps are stored. */
export interface StepStore {
  get(name: StepName): Promise<StepResult | undefined>
  /** Stores a result. `tensors` is a file in `folder`; the store takes it over. */
  put(name: StepName, value: unknown, tensors?: TensorFile): Promise<void>
  /** The folder that callers write tensor files to. */
  readonly folder: string
}
