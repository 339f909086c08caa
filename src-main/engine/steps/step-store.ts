import type { TensorFile } from '#contract/pruning/plan.ts'
import type { StepName } from './step-name.ts'

/** A stored step: its JSON, and its tensor file if it has one. */
export interface StepResult {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** False if another run computed it. */
  readonly own?: boolean
}

/** Where results of steps are stored. */
export interface StepStore {
  get(name: StepName): Promise<StepResult | undefined>
  /** `tensors` is a file in `folder`, which then belongs to the store. */
  put(name: StepName, value: unknown, tensors?: TensorFile): Promise<void>
  /** Where tensor files are written. */
  readonly folder: string
}
