import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at, outside } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows, type WindowGroup } from '#engine/model/forward.ts'
import type { ExpertActivations, NeuronSums, PartActivations } from '#engine/model/parts/part.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import { addAt } from '#engine/pruning/experts/expert-statistics.ts'
import { type MethodInput, type MethodPhase, stackPasses } from '#engine/pruning/method.ts'
import { largest } from '#engine/pruning/selection.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { columnSums } from '#engine/tensor/sums.ts'

/**
 * Scores of what an MLP may lose, by block: its neurons [L][I], the neurons of each expert [L][E][I], or the hidden channels that it reads
 * and writes [L][D].
 */
export type MlpScores =
  | { readonly neurons: number[][]; readonly experts?: never; readonly inputs?: never }
  | { readonly experts: number[][][]; readonly neurons?: never; readonly inputs?: never }
  | { readonly neurons?: never; readonly experts?: never; readonly inputs: number[][]; readonly outputs: number[][] }

const scoring = 'Stage 1: scoring neurons'

/** Returns the work of the pass that scores neurons. */
export function scoringPhase(spec: DecoderSpec, windows: number, expertsGone?: number): MethodPhase {
  const without = expertsGone === undefined ? '' : ` without ${expertsGone} of the experts`
  const phase = { phase: scoring, passes: stackPasses(spec.blocks.length, windows), shared: `${scoring}, ${windows} windows${without}` }
  return spec.router ? { ...phase, choosing: 'exactly' } : phase
}

interface MlpScoreOptions {
  readonly norm: 1 | 2
  readonly windows: number
  readonly cut: 'neurons' | 'channels'
}

const normStep: StepKind = { version: 1, reach: 'shared' }

/** Returns mean norms for the input's view. One pass gives both norms of the neurons and serves all sparsities. */
export async function mlpScores<Options>(input: MethodInput<Options>, { norm, windows, cut }: MlpScoreOptions): Promise<MlpScores> {
  const key = norm === 1 ? 'l1' : 'l2'
  const count = Math.min(windows, input.calibration.length)
  if (input.view.spec.router) return { experts: (await expertNormsOf(input, count))[key] }
  if (cut === 'neurons') {
    const requests = { l1: { site: 'neurons', norm: 'l1' }, l2: { site: 'neurons', norm: 'l2' } } as const
    const asked = { kind: normStep, label: `neuron norms, ${count} windows`, on: { windows: input.calibration.slice(0, count), cut } }
    const norms = await input.run.step(asked, () => normsOf(input, count, requests))
    return { neurons: norms[key] }
  }
  const requests = { inputs: { site: 'input', norm: key }, outputs: { site: 'output', norm: key } } as const
  const on = { windows: input.calibration.slice(0, count), cut, norm }
  return input.run.step({ kind: normStep, label: `channel norms ${key}, ${count} windows`, on }, () => normsOf(input, count, requests))
}

async function normsOf<Options, Key extends string>(
  { view, calibration, run }: MethodInput<Options>,
  count: number,
  requests: Record<Key, NormRequest>,
) {
  const norms = await columnNorms(view, calibration.slice(0, count), Object.values(requests), {
    progress: (done, total) => run.progress(scoring, done, total, 'submodules'),
    signal: run.signal,
  })
  const entries = Object.entries<NormRequest>(requests).map(([name, request]) => [
    name,
    (norms.get(request) ?? []).map((block) => [...block]),
  ])
  return Object.fromEntries(entries) as Record<Key, number[][]>
}

const expertNormStep: StepKind = { version: 1, reach: 'shared' }

function expertNormsOf<Options>({ view, calibration, run }: MethodInput<Options>, count: number) {
  const windows = calibration.slice(0, count)
  const on = { windows, plan: view.plan }
  return run.step({ kind: expertNormStep, label: `neuron norms of experts, ${count} windows`, on }, () =>
    expertNorms(view, windows, {
      progress: (done, total) => run.progress(scoring, done, total, 'submodules'),
      signal: run.signal,
    }),
  )
}

interface KeptColumns {
  /** The indices that stay, by block. */
  readonly kept: number[][]
  /** The smallest score that stays, by block. */
  readonly cuts: number[]
  /** A sentence for each block whose cut is a tie within float32. */
  readonly notes: string[]
}

/** Picks the `count` columns of each block with the largest scores. `what` names a column in the notes. */
export function keepLargest(scores: readonly number[][], count: number, what: string): KeptColumns {
  const selections = scores.map((block) => largest(block, count))
  return {
    kept: selections.map(({ indices }) => indices),
    cuts: selections.map(({ cut }) => cut),
    notes: selections.flatMap(({ margin }, block) =>
      margin < 1e-6 && count < at(scores, block).length
        ? [
            `Block ${block}: the scores of the last ${what} kept and the first removed differ by only ${margin.toExponential(1)} of their size, which is a tie in float32.`,
          ]
        : [],
    ),
  }
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

/** Which vectors of an MLP are measured: neurons (the input of the down projection), or the hidden channels at its input or output. */
type MlpSite = 'neurons' | 'input' | 'output'
type NormKind = 'l1' | 'l2'

interface NormRequest {
  readonly site: MlpSite
  readonly norm: NormKind
}

/** For each block, each column's norm over the T positions of a window, averaged over windows. */
type BlockNorms = Float64Array[]

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Returns 2SSP's width scores (arXiv 2501.17771, Eq. 2). One forward pass over the windows serves all requests. It skips the head, and the
 * last down projection unless outputs are requested.
 */
export async function columnNorms(
  view: ModelView,
  windows: Windows,
  requests: readonly NormRequest[],
  report: Report,
): Promise<Map<NormRequest, BlockNorms>> {
  const nested = await nestedColumnNorms(view, windows, requests, [windows.length], report)
  return new Map(requests.map((request) => [request, nested.get(request)?.get(windows.length) ?? []]))
}

/** Returns these scores over the first `counts[i]` windows for every i, from one pass over all windows. */
export async function nestedColumnNorms(
  view: ModelView,
  windows: Windows,
  requests: readonly NormRequest[],
  counts: readonly number[],
  report: Report,
): Promise<Map<NormRequest, Map<number, BlockNorms>>> {
  const means = new Map(requests.map((request) => [request, new Map(counts.map((count) => [count, [] as BlockNorms]))]))
  const sums = new Map(requests.map((request) => [request, [] as BlockNorms]))
  const add = (group: WindowGroup, part: Part, normsOf: (request: NormRequest) => ArrayLike<number>) => {
    const block = blockOf(part)
    for (const [request, blocks] of sums) {
      const norms = normsOf(request)
      const width = norms.length / group.batch
      const total = blocks[block] ?? new Float64Array(width)
      blocks[block] = total
      group.indices.forEach((window, i) => {
        for (let column = 0; column < width; column++) total[column] = at(total, column) + at(norms, i * width + column)
        const snapshot = means.get(request)?.get(window + 1)
        if (snapshot) snapshot[block] = total.map((sum) => sum / (window + 1))
      })
    }
  }
  await runWindows(view, windows, {
    ...report,
    endsBeforeOutput: requests.every(({ site }) => site !== 'output'),
    ...(requests.every(({ site }) => site === 'neurons')
      ? { sumNeurons: (group, part, sums) => add(group, part, ({ norm }) => normsFrom(sums, norm)) }
      : {
          observe: (group, part, seen) => {
            if (!isAttention(part)) add(group, part, ({ site, norm }) => normsFrom(sumsOf(columnsAt(site, seen), group), norm))
          },
        }),
  })
  return means
}

const columnsAt = (site: MlpSite, { inner, input, output }: PartActivations): Tensor2D =>
  site === 'neurons' ? inner : site === 'input' ? input : (output as Tensor2D)

const sumsOf =
  (x: Tensor2D, { batch, tokens }: WindowGroup): NeuronSums =>
  (of) =>
    columnSums(x, batch, tokens, of)

/** Returns norms over the positions of each window, [B, I] row by row, from sums over them. */
function normsFrom(sums: NeuronSums, norm: NormKind): ArrayLike<number> {
  return norm === 'l1' ? sums('magnitudes') : Float64Array.from(sums('squares'), Math.sqrt)
}
