import type { TensorFile } from '#contract/pruning/plan.ts'
import type { StepName } from './step-name.ts'

/** A step as it was written down: its JSON, and the file of its tensors where it has some. */
export interface StepResult {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** False where another run did it. */
  readonly own?: boolean
}

/** Where results of steps are written down. */
export interface StepStore {
  get(name: StepName): Promise<StepResult | undefined>
  /** `tensors` is a file in `folder`, which the store keeps from then on. */
  put(name: StepName, value: unknown, tensors?: TensorFile): Promise<void>
  /** Where files of tensors are written. */
  readonly folder: string
}
