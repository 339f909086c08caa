import { at, outside } from '#contract/at.ts'
import type { NamedTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ExpertActivations } from '#engine/model/parts/part.ts'
import { runWindows } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf } from '#engine/model/weights/weights.ts'

/** Sums over the tokens routed to each expert of a mixture, [E] each. f is the expert's output [D], and g the factor on it. */
export interface MixtureStatistics {
  readonly block: number
  /** Tokens routed to the expert. */
  readonly count: number[]
  /** Sum of g |f|. */
  readonly norms: number[]
  /** The largest absolute entry of f over all tokens. */
  readonly peaks: number[]
}

export interface ExpertStatistics {
  /** The tokens of all windows. */
  readonly tokens: number
  readonly blocks: MixtureStatistics[]
}

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/** Which vector replaces an expert: its mean output, or the least-squares fit. */
export type ExpertOutputs = 'mean' | 'fitted'

/** Names the vectors that summarise the experts of a block, [E, D]. They are not part of any plan. */
export const meansName = (block: number): string => `blocks.${block}.means`

/**
 * Sums what each expert adds, in one pass of the model over the windows. Only the tokens routed to an expert run through it. Sums are in
 * float64, and products have the precision that decides. With `outputs`, also returns a vector for each expert: its mean output, or the v
 * that minimises the sum of |g f - g v|², which is the mean weighted by g².
 */
export async function expertStatistics(
  view: ModelView,
  windows: Windows,
  { outputs }: { readonly outputs: ExpertOutputs | undefined },
  report: Report,
): Promise<ExpertStatistics & { tensors: NamedTensors }> {
  const { spec, model } = view
  const sums = new Map<number, MixtureSums>()
  await runWindows(view, windows, {
    ...report,
    products: model.products.deciding,
    endsBeforeOutput: true,
    observe(_group, part, { experts }) {
      if (!experts) return
      const block = blockOf(part)
      const own = sums.get(block) ?? new MixtureSums(spec.blocks[block]?.experts ?? 0, outputs ? spec.hidden : 0, outputs)
      sums.set(block, own)
      for (const expert of experts) own.add(expert)
    },
  })
  const blocks = [...sums].sort(([a], [b]) => a - b)
  return {
    tokens: windows.reduce((total, { length }) => total + length, 0),
    blocks: blocks.map(([block, own]) => ({ block, ...own.statistics() })),
    tensors: new Map(outputs ? blocks.map(([block, own]) => [meansName(block), own.means()]) : []),
  }
}

class MixtureSums {
  readonly #count: Float64Array
  readonly #norms: Float64Array
  readonly #peaks: Float64Array
  readonly #outputs: Float64Array
  /** The divisors of the summed outputs. */
  readonly #weights: Float64Array
  readonly #hidden: number
  readonly #fits: boolean

  /** Outputs are summed only if `hidden` is above 0. */
  constructor(experts: number, hidden: number, outputs: ExpertOutputs | undefined) {
    this.#count = new Float64Array(experts)
    this.#norms = new Float64Array(experts)
    this.#peaks = new Float64Array(experts)
    this.#outputs = new Float64Array(experts * hidden)
    this.#weights = new Float64Array(experts)
    this.#hidden = hidden
    this.#fits = outputs === 'fitted'
  }

  add({ expert, gates, output }: ExpertActivations): void {
    const values = output.dataSync<'float32'>()
    const width = output.shape[1]
    let [norms, peak] = [0, this.#peaks[expert] ?? outside(this.#peaks, expert)]
    for (let row = 0; row < gates.length; row++) {
      const gate = gates[row] ?? outside(gates, row)
      const weight = this.#fits ? gate * gate : 1
      addAt(this.#weights, expert, weight)
      let squares = 0
      for (let i = 0; i < width; i++) {
        const value = values[row * width + i] ?? outside(values, row * width + i)
        squares += value * value
        const size = Math.abs(value)
        if (size > peak) peak = size
        if (this.#hidden > 0) addAt(this.#outputs, expert * width + i, weight * value)
      }
      norms += gate * Math.sqrt(squares)
    }
    addAt(this.#count, expert, gates.length)
    addAt(this.#norms, expert, norms)
    this.#peaks[expert] = peak
  }

  statistics(): Omit<MixtureStatistics, 'block'> {
    return { count: [...this.#count], norms: [...this.#norms], peaks: [...this.#peaks] }
  }

  /** Returns the vectors of all experts, [E, D]. They are zero for an expert that no token reached. */
  means(): { values: Float32Array; shape: number[] } {
    const hidden = this.#hidden
    const values = Float32Array.from(this.#outputs, (sum, i) => sum / (at(this.#weights, Math.floor(i / hidden)) || 1))
    return { values, shape: [this.#count.length, hidden] }
  }
}

export function addAt(sums: Float64Array, index: number, value: number): void {
  sums[index] = (sums[index] ?? outside(sums, index)) + value
}
