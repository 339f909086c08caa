import { concat, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/view.ts'

/**
 * Final hidden states of a view per window, [T, D], to measure divergence from. A search that scores on the same windows again finds
 * them kept, as far as the limit allows: a sixth to a fifth of EvoPress's work. Kept is what came first.
 */
export class DenseStates {
  readonly #view: ModelView
  readonly #limitBytes: number
  readonly #kept = new Map<Int32Array, Tensor2D>()
  #bytes = 0
  /** Windows that were run. */
  passes = 0

  constructor(view: ModelView, limitBytes: number) {
    this.#view = view
    this.#limitBytes = limitBytes
  }

  /** States of windows of one length, one below the other: [B*T, D], the caller's to dispose of. */
  async of(windows: Windows): Promise<Tensor2D> {
    const missing = windows.filter((window) => !this.#kept.has(window))
    const fresh = new Map<Int32Array, Tensor2D>()
    if (missing.length > 0) await this.#run(missing, fresh)
    const all = windows.map((window) => this.#kept.get(window) ?? (fresh.get(window) as Tensor2D))
    const joined: Tensor2D = concat(all, 0)
    for (const [window, state] of fresh) this.#keep(window, state)
    return joined
  }

  async #run(windows: Windows, results: Map<Int32Array, Tensor2D>): Promise<void> {
    this.passes += windows.length
    await runWindows(this.#view, windows, {
      afterStack: (group, x) => {
        const hidden = finalHidden(this.#view, x)
        group.indices.forEach((index, i) => {
          results.set(windows[index] as Int32Array, slice(hidden, [i * group.tokens, 0], [group.tokens, -1]))
        })
        hidden.dispose()
      },
    })
  }

  #keep(window: Int32Array, state: Tensor2D): void {
    const bytes = 4 * state.size
    if (this.#bytes + bytes > this.#limitBytes) {
      state.dispose()
      return
    }
    this.#bytes += bytes
    this.#kept.set(window, state)
  }

  dispose(): void {
    for (const state of this.#kept.values()) state.dispose()
    this.#kept.clear()
    this.#bytes = 0
  }
}
