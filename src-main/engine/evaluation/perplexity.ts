import { EspalierError } from '#contract/errors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { nextTokens, tokenLosses } from '#engine/model/likelihood.ts'
import type { ModelView } from '#engine/model/views/view.ts'

export interface Perplexity {
  /** exp of the mean negative log-likelihood per predicted token. */
  readonly perplexity: number
  readonly tokens: number
}

/**
 * Perplexity over windows: exp of the mean of the T - 1 next-token losses of each window, over all tokens. Losses are summed in float64.
 * The 2SSP reference averages and exponentiates in the model's half precision, which rounds by several percent in bfloat16.
 */
export async function perplexity(
  view: ModelView,
  windows: Windows,
  report: { progress?(done: number, total: number): void; signal?: AbortSignal } = {},
): Promise<Perplexity> {
  if (windows.length === 0) throw new EspalierError('invalid', 'Perplexity needs at least one window of tokens; the data has none.')
  let total = 0
  let tokens = 0
  await readLosses(view, windows, report, (losses) => {
    total += losses.reduce((sum, loss) => sum + loss, 0)
    tokens += losses.length
  })
  return { perplexity: Math.exp(total / tokens), tokens }
}

/** Calls `take` with the T - 1 next-token losses of each window. The order of the windows may differ from the given one. */
export async function readLosses(
  view: ModelView,
  windows: Windows,
  report: { progress?(done: number, total: number): void; signal?: AbortSignal },
  take: (losses: Float64Array) => void,
): Promise<void> {
  await runWindows(view, windows, {
    ...report,
    async afterStack(group, x) {
      const hidden = finalHidden(view, x)
      const losses = await tokenLosses(view.model.vocabulary, hidden, nextTokens(group.ids, group.tokens), {
        products: view.model.products.passes,
      })
      hidden.dispose()
      for (const i of group.indices.keys()) take(losses.subarray(i * group.tokens, (i + 1) * group.tokens - 1))
    },
  })
}
