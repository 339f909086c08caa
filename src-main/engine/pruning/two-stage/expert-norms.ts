import { outside } from '#contract/at.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ExpertActivations } from '#engine/model/experts/mixture.ts'
import { runWindows, type WindowGroup } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf } from '#engine/model/weights/weights.ts'
import { addAt } from '../experts/statistics.ts'
import type { NormKind } from './neuron-norms.ts'

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Returns 2SSP's width scores (arXiv 2501.17771, Eq. 2) inside experts, [L][E][I]: the mean over windows of each neuron's norm over the
 * tokens routed to its expert. Activations are multiplied by the token's gate, because the gate multiplies what reaches the stream. Blocks
 * without a mixture have no scores.
 */
export async function expertNorms(view: ModelView, windows: Windows, report: Report): Promise<Record<NormKind, number[][][]>> {
  const { spec, model } = view
  const sums = spec.blocks.map(({ experts = 0, width }) => new NormSums(experts, width))
  await runWindows(view, windows, {
    ...report,
    // If rounding sent a token to another expert, it would be counted there.
    products: model.products.deciding,
    endsBeforeOutput: true,
    observe(group, part, { experts = [] }) {
      for (const expert of experts) sums[blockOf(part)]?.add(group, expert)
    },
  })
  const meansOf = (norm: NormKind) => sums.map((own) => own.means(norm, windows.length))
  return { l1: meansOf('l1'), l2: meansOf('l2') }
}

/** Sums of norms over windows, [E, I]. */
class NormSums {
  readonly #width: number
  readonly #sums: Record<NormKind, Float64Array>

  constructor(experts: number, width: number) {
    this.#width = width
    this.#sums = { l1: new Float64Array(experts * width), l2: new Float64Array(experts * width) }
  }

  add({ tokens }: WindowGroup, { expert, rows, gates, inner }: ExpertActivations): void {
    if (!inner) return
    const values = inner.dataSync<'float32'>()
    const width = this.#width
    let first = 0
    // Rows are ascending, so those of a window are consecutive.
    while (first < rows.length) {
      const window = Math.floor((rows[first] ?? outside(rows, first)) / tokens)
      let end = first + 1
      while (end < rows.length && Math.floor((rows[end] ?? outside(rows, end)) / tokens) === window) end++
      for (let neuron = 0; neuron < width; neuron++) {
        let [magnitudes, squares] = [0, 0]
        for (let row = first; row < end; row++) {
          const index = row * width + neuron
          const value = Math.abs((gates[row] ?? outside(gates, row)) * (values[index] ?? outside(values, index)))
          magnitudes += value
          squares += value * value
        }
        addAt(this.#sums.l1, expert * width + neuron, magnitudes)
        addAt(this.#sums.l2, expert * width + neuron, Math.sqrt(squares))
      }
      first = end
    }
  }

  means(norm: NormKind, windows: number): number[][] {
    const sums = this.#sums[norm]
    return Array.from({ length: this.#width === 0 ? 0 : sums.length / this.#width }, (_, expert) =>
      Array.from(sums.subarray(expert * this.#width, (expert + 1) * this.#width), (sum) => sum / windows),
    )
  }
}
