import type { Tensor2D } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention } from '#engine/model/weights/weights.ts'
import { columnSums } from '#engine/tensor/column-sums.ts'

/** Which of the MLP's vectors are measured: neurons (the input of the down projection), or hidden channels going in or out. */
type MlpSite = 'neurons' | 'input' | 'output'
export type NormKind = 'l1' | 'l2'

export interface NormRequest {
  readonly site: MlpSite
  readonly norm: NormKind
}

/** Per block, the mean over windows of each column's norm over the T positions of a window. */
type BlockNorms = Float64Array[]

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * 2SSP's width scores (arXiv 2501.17771, Eq. 2). One forward pass of the unpruned model over the windows serves all requests. The head and,
 * for neurons, the last down projection add nothing and do not run.
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

/** The same over the first `counts[i]` windows for every i, from one pass over all of them. */
export async function nestedColumnNorms(
  view: ModelView,
  windows: Windows,
  requests: readonly NormRequest[],
  counts: readonly number[],
  report: Report,
): Promise<Map<NormRequest, Map<number, BlockNorms>>> {
  const means = new Map(requests.map((request) => [request, new Map(counts.map((count) => [count, [] as BlockNorms]))]))
  const sums = new Map(requests.map((request) => [request, [] as BlockNorms]))
  await runWindows(view, windows, {
    ...report,
    endsBeforeOutput: requests.every(({ site }) => site !== 'output'),
    observe(group, part, seen) {
      if (isAttention(part)) return
      const block = blockOf(part)
      for (const [request, blocks] of sums) {
        const column = request.site === 'neurons' ? seen.inner : request.site === 'input' ? seen.input : (seen.output as Tensor2D)
        const norms = windowNorms(column, group.batch, group.tokens, request.norm)
        const width = norms.length / group.batch
        const total = blocks[block] ?? new Float64Array(width)
        blocks[block] = total
        group.indices.forEach((window, i) => {
          for (let column = 0; column < width; column++)
            total[column] = (total[column] ?? outside(total, column)) + (norms[i * width + column] ?? outside(norms, i * width + column))
          const snapshot = means.get(request)?.get(window + 1)
          if (snapshot) snapshot[block] = total.map((sum) => sum / (window + 1))
        })
      }
    },
  })
  return means
}

/** Norms over the positions of each window: x [B*T, I], result [B, I] row by row. */
function windowNorms(x: Tensor2D, batch: number, tokens: number, norm: NormKind): ArrayLike<number> {
  if (norm === 'l1') return columnSums(x, batch, tokens, 'magnitudes')
  return Float64Array.from(columnSums(x, batch, tokens, 'squares'), Math.sqrt)
}
