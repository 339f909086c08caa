import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { nextTokens, tokenLosses } from '#engine/model/parts/head/token-losses.ts'
import type { ModelView } from '#engine/model/views/view.ts'

export interface Perplexity {
  /** exp of the mean negative log-likelihood per predicted token. */
  readonly perplexity: number
  readonly tokens: number
  /** The mean loss of each window in nats per predicted token, in the order of the windows. */
  readonly losses: readonly number[]
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
  const losses = windows.map(() => Number.NaN)
  let total = 0
  let tokens = 0
  await readLosses(view, windows, report, (own, window) => {
    const sum = own.reduce((all, loss) => all + loss, 0)
    losses[window] = sum / own.length
    total += sum
    tokens += own.length
  })
  return { perplexity: Math.exp(total / tokens), tokens, losses }
}

/**
 * Bits per byte: the sum of the losses over ln 2 and over the UTF-8 bytes of the text that the predicted tokens cover. It does not depend on
 * the tokenizer. Predicted are all tokens of a window except its first; special tokens cover no bytes (`Tokenizer.bytesOf`). The error is
 * that of a ratio of sums over windows (Cochran, Sampling Techniques, 6.3). Undefined if the tokens cover no text.
 */
export function bitsPerByte(
  windows: Windows,
  losses: readonly number[],
  bytesOf: (id: number) => number,
): { value: number; error: number | undefined; bytes: number } | undefined {
  const bytes = windows.map((ids) => ids.subarray(1).reduce((sum, id) => sum + bytesOf(id), 0))
  const bits = windows.map((ids, window) => (at(losses, window) * (ids.length - 1)) / Math.LN2)
  const total = bytes.reduce((sum, own) => sum + own, 0)
  if (total === 0) return undefined
  const value = bits.reduce((sum, own) => sum + own, 0) / total
  const count = windows.length
  const squares = bits.reduce((sum, own, window) => sum + (own - value * at(bytes, window)) ** 2, 0)
  return { value, error: count > 1 ? Math.sqrt((count / (count - 1)) * squares) / total : undefined, bytes: total }
}

/** Calls `take` with the T - 1 next-token losses of each window and its index. The order of the calls may differ from the windows'. */
export async function readLosses(
  view: ModelView,
  windows: Windows,
  report: { progress?(done: number, total: number): void; signal?: AbortSignal },
  take: (losses: Float64Array, window: number) => void,
): Promise<void> {
  await runWindows(view, windows, {
    ...report,
    async afterStack(group, x) {
      const hidden = finalHidden(view, x)
      const losses = await tokenLosses(view.model.vocabulary, hidden, nextTokens(group.ids, group.tokens), {
        products: view.model.products.passes,
      })
      hidden.dispose()
      for (const [i, window] of group.indices.entries()) take(losses.subarray(i * group.tokens, (i + 1) * group.tokens - 1), window)
    },
  })
}
