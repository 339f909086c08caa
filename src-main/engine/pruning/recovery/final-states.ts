import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import type { NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { productsOfFewDigits } from '#engine/model/precision.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodRun } from '../method.ts'

/** Returns how many tokens have their states in memory at once, and in one file: at most 128 MiB of float32. */
const tokensPerFile = (width: number): number => Math.min(2 ** 15, 2 ** 25 / width)

const statesStep: StepKind = { version: 2 }

export const readingDense = 'Reading the dense model'

/**
 * The dense model's final states of windows, stored with 16 bits in files of the run. They are far smaller than its logits, which the head
 * computes from them again. Their rounding to bfloat16 changes divergences by about 0.00002 nats (see README.md).
 */
export class FinalStates {
  readonly #files: readonly StoredTensors[]
  readonly #perFile: number
  readonly #width: number

  private constructor(files: readonly StoredTensors[], perFile: number, width: number) {
    this.#files = files
    this.#perFile = perFile
    this.#width = width
  }

  /** Computes the states of windows of equal length, or finds them in the steps of the run. */
  static async of(dense: ModelView, windows: Windows, run: Pick<MethodRun, 'tensorStep' | 'progress' | 'signal'>): Promise<FinalStates> {
    const length = windows[0]?.length ?? 1
    const perFile = Math.max(1, Math.floor(tokensPerFile(dense.spec.hidden) / length))
    const files: StoredTensors[] = []
    for (let first = 0; first < windows.length; first += perFile) {
      const own = windows.slice(first, first + perFile)
      const report = (share: number) => run.progress(readingDense, (first + share * own.length) * length, windows.length * length, 'tokens')
      report(0)
      const { tensors } = await run.tensorStep({ kind: statesStep, label: 'final states of the dense model', on: own }, async () => ({
        tensors: await statesOf(dense, own, run.signal, report),
      }))
      files.push(tensors)
    }
    run.progress(readingDense, windows.length * length, windows.length * length, 'tokens')
    return new FinalStates(files, perFile, dense.spec.hidden)
  }

  /** Returns the states of some windows, stacked: [B*T, D]. The caller disposes of the tensor. */
  async read(windows: readonly number[]): Promise<Tensor2D> {
    const parts = await Promise.all(
      windows.map((window) =>
        (this.#files[Math.floor(window / this.#perFile)] as StoredTensors).readFloat32(nameOf(window % this.#perFile)),
      ),
    )
    const values = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0))
    let offset = 0
    for (const part of parts) {
      values.set(part, offset)
      offset += part.length
    }
    return tensor2d(values, [values.length / this.#width, this.#width])
  }
}

/**
 * Returns the seconds that reading the dense model's weights once for a file of states adds, and those of the states of one window. Both
 * are measured on a few windows of text.
 */
export async function timeStates(
  dense: ModelView,
  windows: Windows,
  { signal, progress }: Pick<MethodRun, 'signal' | 'progress'>,
  elapsed: () => number,
): Promise<{ pass: number; states: number }> {
  const seconds = async (own: Windows): Promise<number> => {
    const start = elapsed()
    const tokens = own.reduce((sum, { length }) => sum + length, 0)
    await statesOf(dense, own, signal, (share) => progress(readingDense, share * tokens, tokens, 'tokens'))
    return elapsed() - start
  }
  // The first pass loads the weights that stay in memory.
  await seconds(windows.slice(0, 1))
  const [one, all] = [await seconds(windows.slice(0, 1)), await seconds(windows)]
  const states = windows.length > 1 ? Math.max(0, all - one) / (windows.length - 1) : one
  return { pass: Math.max(0, all - windows.length * states), states }
}

const nameOf = (index: number): string => `states.${index}`

async function statesOf(
  dense: ModelView,
  windows: Windows,
  signal: AbortSignal,
  report: (share: number) => void,
): Promise<Map<string, NamedTensor>> {
  const tensors = new Map<string, NamedTensor>()
  await runWindows(dense, windows, {
    signal,
    // States are stored in 16 bits anyway, so fast products are exact enough.
    products: productsOfFewDigits(dense.model.products),
    afterStack({ indices, tokens }, x) {
      const final = finalHidden(dense, x)
      const values = final.dataSync() as Float32Array
      const [, width] = final.shape
      final.dispose()
      for (const [position, index] of indices.entries()) {
        const rows = values.subarray(position * tokens * width, (position + 1) * tokens * width)
        tensors.set(nameOf(index), { values: rows, shape: [tokens, width], dtype: 'BF16' })
      }
    },
    progress: (done, total) => report(done / total),
  })
  return tensors
}
