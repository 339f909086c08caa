import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { NeuronSums, PartActivations } from '#engine/model/decoder.ts'
import { runWindows, type WindowGroup } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import { columnSums } from '#engine/tensor/column-sums.ts'

/** Which vectors of an MLP are measured: neurons (the input of the down projection), or the hidden channels at its input or output. */
type MlpSite = 'neurons' | 'input' | 'output'
export type NormKind = 'l1' | 'l2'

export interface NormRequest {
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
