import { abs, reshape, sqrt, square, sum, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/view.ts'

/** Which of the MLP's vectors are measured: neurons (the input of the down projection), or hidden channels going in or out. */
export type MlpSite = 'neurons' | 'input' | 'output'
export type NormKind = 'l1' | 'l2'

export interface NormRequest {
  readonly site: MlpSite
  readonly norm: NormKind
}

/** Per request and block, the mean over windows of each column's norm over the T positions of a window. */
export type ColumnNorms = Map<NormRequest, Float64Array[]>

/**
 * 2SSP's width scores (arXiv 2501.17771, Eq. 2): one forward pass of the unpruned model over the windows serves all requests.
 * The head and the last down projection add nothing and are not run beyond the block stack.
 */
export async function columnNorms(
  view: ModelView,
  windows: Windows,
  requests: readonly NormRequest[],
  report: { progress?(done: number, total: number): void; signal?: AbortSignal },
): Promise<ColumnNorms> {
  const sums: ColumnNorms = new Map(requests.map((request) => [request, []]))
  await runWindows(view, windows, {
    ...report,
    observeMlp(group, block, seen) {
      for (const [request, blocks] of sums) {
        const column = request.site === 'neurons' ? seen.neurons : request.site === 'input' ? seen.input : (seen.output as Tensor2D)
        blocks[block] = addWindows(blocks[block], column, group.batch, group.tokens, request.norm)
      }
    },
  })
  for (const blocks of sums.values()) {
    for (const block of blocks.keys()) blocks[block] = (blocks[block] as Float64Array).map((total) => total / windows.length)
  }
  return sums
}

/** Adds each window's norms: x [B*T, I], total [I]. */
function addWindows(total: Float64Array | undefined, x: Tensor2D, batch: number, tokens: number, norm: NormKind): Float64Array {
  const width = x.shape[1]
  const norms = tidy(() => {
    const powers: Tensor = norm === 'l2' ? square(x) : abs(x)
    const perWindow = sum(reshape(powers, [batch, tokens, width]), 1)
    return (norm === 'l2' ? sqrt(perWindow) : perWindow).dataSync()
  })
  const result = total ?? new Float64Array(width)
  for (let i = 0; i < norms.length; i++) result[i % width] = (result[i % width] ?? 0) + (norms[i] ?? 0)
  return result
}
