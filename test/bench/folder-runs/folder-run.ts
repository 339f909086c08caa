import { join } from 'node:path'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { modelContents } from '#engine/checkpoint/fingerprint.ts'
import { StoredTensors, type TensorsToStore, writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import type { Model } from '#engine/model/model.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { nameStep, type StepBase, type StepRequest } from '#engine/steps/step-name.ts'
import { StepFiles } from './folder-steps.ts'
import { addSpent, type Spent, spentSince, spentSoFar } from './spent.ts'

/** A run whose steps are files in a folder, so that a long measurement resumes where it was stopped. */
export class FolderRun implements MethodRun {
  readonly seed: number
  readonly signal = new AbortController().signal
  /** Seconds of all outermost steps; steps that were already done count with their original time. */
  seconds = 0
  /** What steps that were already done took. */
  found: Spent | undefined
  readonly #folder: string
  readonly #steps: StepFiles
  readonly #base: StepBase
  #depth = 0

  constructor(folder: string, base: StepBase, seed: number) {
    this.#folder = join(folder, 'steps')
    this.#base = base
    this.seed = seed
    this.#steps = new StepFiles(this.#folder)
  }

  async step<T>(asked: StepRequest, compute: () => Promise<T> | T): Promise<T> {
    return this.#keep(nameStep(asked, this.#base), compute)
  }

  async tensorStep<T extends object>(
    asked: StepRequest,
    compute: () => Promise<T & { tensors: TensorsToStore }>,
  ): Promise<Omit<T, 'tensors'> & { tensors: StoredTensors }> {
    const { file, value } = await this.step<{ file: TensorFile; value: Omit<T, 'tensors'> }>(asked, async () => {
      const { tensors, ...rest } = await compute()
      return { value: rest, file: await writeTensorFile(join(this.#folder, 'tensors'), tensors) }
    })
    return { ...value, tensors: await StoredTensors.open([file]) }
  }

  async #keep<T>(name: string, compute: () => Promise<T> | T): Promise<T> {
    const found = this.#steps.get(name)
    if (found !== undefined) {
      const { value, ...spent } = found as Spent & { value: T }
      if (this.#depth === 0) {
        this.seconds += spent.seconds
        this.found = addSpent(spent, this.found)
      }
      return value
    }
    const start = spentSoFar()
    this.#depth++
    const value = await Promise.resolve(compute()).finally(() => {
      this.#depth--
    })
    const spent = spentSince(start)
    this.#steps.put(name, { value, ...spent })
    if (this.#depth === 0) this.seconds += spent.seconds
    return value
  }

  async findState(): Promise<undefined> {}
  async putState(): Promise<void> {}
  progress(): void {}
  emit(): void {}
  count(): void {}
}

/** What all steps of a benchmark on a model depend on. */
export async function baseOf({ path }: Pick<Model, 'path'>, precision = 'float32'): Promise<StepBase> {
  return { model: await modelContents(path), backend: activeBackend().name, precision }
}
