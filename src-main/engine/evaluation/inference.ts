import { slice, type Tensor2D } from '@tensorflow/tfjs-core'
import type { Measure } from '#contract/measures.ts'
import { referenceRepeats } from '#contract/protocol.ts'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { DecodingSession } from '#engine/model/session.ts'
import type { ModelView } from '#engine/model/view.ts'
import { headLogits } from '#engine/model/vocabulary.ts'
import { topIndices } from './generation/probabilities.ts'

export interface InferenceSettings {
  /** Timed repetitions; as many warm-ups go before them, at most `warmups`. */
  readonly repeats: number
  readonly warmups: number
  /** Tokens decoded one by one after the prompt. */
  readonly decoded: number
}

/** The reference's protocol: ten warm-ups and ten timed passes. */
export const referenceInference: InferenceSettings = { repeats: referenceRepeats, warmups: 10, decoded: 32 }

/** Median and half the distance between the quartiles. */
function spread(seconds: readonly number[]): { median: number; spread: number } {
  const sorted = [...seconds].sort((a, b) => a - b)
  const at = (share: number) => {
    const position = share * (sorted.length - 1)
    const low = sorted[Math.floor(position)] ?? 0
    return low + ((sorted[Math.ceil(position)] ?? low) - low) * (position % 1)
  }
  return { median: at(0.5), spread: (at(0.75) - at(0.25)) / 2 }
}

/** One pass over a window with the logits of every position, as the reference times it: seconds. */
async function timePass(view: ModelView, window: Int32Array, signal?: AbortSignal): Promise<number> {
  const start = performance.now()
  await runWindows(view, [window], {
    ...(signal ? { signal } : {}),
    async afterStack(_group, x) {
      const hidden = finalHidden(view, x)
      const rows = Math.max(1, Math.floor(2 ** 24 / view.model.vocabulary.chunkRows))
      await view.model.vocabulary.forEachHeadChunk((chunk) => {
        for (let first = 0; first < hidden.shape[0]; first += rows) {
          const part: Tensor2D = slice(hidden, [first, 0], [Math.min(rows, hidden.shape[0] - first), -1])
          const logits = headLogits(part, chunk)
          slice(logits, [0, 0], [1, 1]).dataSync()
          part.dispose()
          logits.dispose()
        }
      })
      hidden.dispose()
    },
  })
  return (performance.now() - start) / 1000
}

/** Feeds the window as a prompt, then decodes greedily: seconds to the first token and per further token. */
async function timeDecoding(
  view: ModelView,
  window: Int32Array,
  decoded: number,
  signal?: AbortSignal,
): Promise<{ first: number; perToken: number }> {
  const session = new DecodingSession(view)
  try {
    const start = performance.now()
    let [logits] = await session.feed(window, 1, signal)
    const first = (performance.now() - start) / 1000
    for (let i = 0; i < decoded; i++) [logits] = await session.feed(Int32Array.of(topIndices(logits ?? [], 1)[0] ?? 0), 1, signal)
    return { first, perToken: ((performance.now() - start) / 1000 - first) / decoded }
  } finally {
    session.dispose()
  }
}

/**
 * Inference time of one window, batch 1: a whole pass with all logits and no cache (what the 2SSP reference times, there in
 * milliseconds called seconds), time to the first token, decoded tokens per second. Values are medians, `error` half the interquartile range.
 */
export async function inferenceTime(
  view: ModelView,
  windows: Windows,
  settings: InferenceSettings,
  report: { signal?: AbortSignal; progress?(done: number, total: number): void } = {},
): Promise<Measure[]> {
  const window = windows[0] as Int32Array
  const passes: number[] = []
  const decodings: { first: number; perToken: number }[] = []
  const total = settings.warmups + settings.repeats
  for (let i = 0; i < total; i++) {
    const seconds = await timePass(view, window, report.signal)
    if (i >= settings.warmups) passes.push(seconds)
    report.progress?.(i + 1, total)
  }
  const prompt = window.subarray(0, Math.max(1, window.length - settings.decoded))
  for (let i = 0; i < Math.min(5, settings.repeats); i++) decodings.push(await timeDecoding(view, prompt, settings.decoded, report.signal))
  const pass = spread(passes)
  const first = spread(decodings.map((entry) => entry.first))
  const rate = spread(decodings.map((entry) => 1 / entry.perToken))
  return [
    { name: 'inference time', dataset: `${window.length} tokens`, value: 1000 * pass.median, error: 1000 * pass.spread, unit: 'ms' },
    { name: 'tokens per second', dataset: 'prefill', value: window.length / pass.median, unit: 'tokens/s' },
    { name: 'time to first token', dataset: `${prompt.length} tokens`, value: 1000 * first.median, error: 1000 * first.spread, unit: 'ms' },
    { name: 'tokens per second', dataset: 'decode', value: rate.median, error: rate.spread, unit: 'tokens/s' },
  ]
}
