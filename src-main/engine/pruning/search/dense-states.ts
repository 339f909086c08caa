import { concat, slice, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { type DenseDistribution, denseDistribution } from '#engine/model/divergence.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import type { HeadPass } from '#engine/model/likelihood.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { windowName } from './variant-memory.ts'

/**
 * Computes what divergences need of the dense model's answer to each window, and keeps it as far as the limit allows. The first windows are
 * kept. A search that scores on them again finds them, which saves a sixth to a fifth of EvoPress's work. Windows run one by one, so a
 * resumed search that kept other windows gets the same numbers.
 */
export class DenseStates {
  readonly #view: ModelView
  readonly #limitBytes: number
  readonly #kept = new Map<string, DenseDistribution>()
  #bytes = 0
  /** How many windows were run so far. */
  passes = 0

  constructor(view: ModelView, limitBytes: number) {
    this.#view = view
    this.#limitBytes = limitBytes
  }

  /**
   * Returns the distributions of windows of equal length, computed with `products` and stacked: [B*T] rows. The caller disposes of them.
   */
  async of(windows: Windows, { products = this.#view.model.products.deciding, signal }: HeadPass = {}): Promise<DenseDistribution> {
    const nameOf = (window: Int32Array) => `${products}|${windowName(window)}`
    const missing = windows.filter((window) => !this.#kept.has(nameOf(window)))
    const fresh = missing.length > 0 ? await this.#run(missing, { products, signal }) : new Map<Int32Array, DenseDistribution>()
    const all = windows.map((window) => this.#kept.get(nameOf(window)) ?? (fresh.get(window) as DenseDistribution))
    const joined = tidy(() => ({
      hidden: concat(
        all.map(({ hidden }) => hidden),
        0,
      ),
      mean: concat(
        all.map(({ mean }) => mean),
        0,
      ),
      logNormalizer: concat(
        all.map(({ logNormalizer }) => logNormalizer),
        0,
      ),
    }))
    for (const [window, distribution] of fresh) this.#keep(nameOf(window), distribution)
    return joined
  }

  async #run(windows: Windows, how: HeadPass): Promise<Map<Int32Array, DenseDistribution>> {
    const results = new Map<Int32Array, DenseDistribution>()
    this.passes += windows.length
    await runWindows(
      this.#view,
      windows,
      {
        ...how,
        afterStack: async (group, x) => {
          const hidden = finalHidden(this.#view, x)
          const all = await denseDistribution(this.#view.model.vocabulary, hidden, how).catch((error) => {
            hidden.dispose()
            throw error
          })
          group.indices.forEach((index, i) => {
            results.set(windows[index] as Int32Array, rowsOf(all, i * group.tokens, group.tokens))
          })
          disposeDistribution(all)
        },
      },
      1,
    )
    return results
  }

  #keep(name: string, distribution: DenseDistribution): void {
    const bytes = 4 * (2 * distribution.hidden.size + distribution.logNormalizer.size)
    if (this.#bytes + bytes > this.#limitBytes) {
      disposeDistribution(distribution)
      return
    }
    this.#bytes += bytes
    this.#kept.set(name, distribution)
  }

  dispose(): void {
    for (const distribution of this.#kept.values()) disposeDistribution(distribution)
    this.#kept.clear()
    this.#bytes = 0
  }
}

function rowsOf({ hidden, mean, logNormalizer }: DenseDistribution, first: number, count: number): DenseDistribution {
  const rows = (x: Tensor2D): Tensor2D => slice(x, [first, 0], [count, -1])
  return { hidden: rows(hidden), mean: rows(mean), logNormalizer: slice(logNormalizer, [first], [count]) }
}

export function disposeDistribution({ hidden, mean, logNormalizer }: DenseDistribution): void {
  for (const tensor of [hidden, mean, logNormalizer]) tensor.dispose()
}
