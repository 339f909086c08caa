import { cpus } from 'node:os'
import { slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { referenceRepeats } from '#contract/protocol.ts'
import type { TakenMeasure } from '#contract/runs/measures.ts'
import { loadMeasure, noiseOfTimes } from '#contract/runs/time/speed.ts'
import type { Windows } from '#engine/data/windows.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { headLogits } from '#engine/model/parts/head/embedding-and-head.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { topIndices } from './generation/sampling.ts'

interface InferenceSettings {
  /** Timed repetitions. They follow the warm-ups. */
  readonly repeats: number
  readonly warmups: number
  /** Tokens decoded one by one after the prompt. */
  readonly decoded: number
}

/** The 2SSP reference's protocol: ten warm-ups and ten timed passes. */
export const referenceInference: InferenceSettings = { repeats: referenceRepeats, warmups: 10, decoded: 32 }

/** Median and half the distance between the quartiles. */
function spread(seconds: readonly number[]): { median: number; spread: number } {
  const sorted = [...seconds].sort((a, b) => a - b)
  const quantile = (share: number) => {
    const position = share * (sorted.length - 1)
    const low = at(sorted, Math.floor(position))
    return low + (at(sorted, Math.ceil(position)) - low) * (position % 1)
  }
  return { median: quantile(0.5), spread: (quantile(0.75) - quantile(0.25)) / 2 }
}

/** Times one pass over a window with the logits of every position, as the reference does. Returns seconds. */
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

/** Feeds the window as a prompt, then decodes greedily. Returns seconds to the first token and per further token. */
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
    for (let i = 0; i < decoded; i++) [logits] = await session.feed(Int32Array.of(at(topIndices(logits ?? [], 1), 0)), 1, signal)
    return { first, perToken: ((performance.now() - start) / 1000 - first) / decoded }
  } finally {
    session.dispose()
  }
}

interface Turn {
  readonly pass: number
  readonly first?: number
  readonly rate?: number
}

/** The times of one model in each of its turns. */
class Timings {
  readonly #turns: Turn[] = []

  add(turn: Turn): void {
    this.#turns.push(turn)
  }

  of(key: keyof Turn): number[] {
    return this.#turns.flatMap((turn) => turn[key] ?? [])
  }
}

/** The measures, and notes on how far to trust them. */
interface InferenceResult {
  readonly measures: TakenMeasure[]
  readonly notes: string[]
}

/**
 * Measures the inference time of one window, batch 1: a whole pass with all logits and no cache (as the 2SSP reference, which reports
 * milliseconds as seconds), the time to the first token, and decoded tokens per second. Values are medians, and `error` is half the
 * interquartile range. With `dense`, that model is timed in turns with the view, and every other round starts with the dense model. The
 * speed-up is computed per round, so that a disturbance of the machine affects both models.
 */
export async function inferenceTime(
  view: ModelView,
  windows: Windows,
  settings: InferenceSettings,
  report: { signal?: AbortSignal; progress?(done: number, total: number): void; dense?: ModelView } = {},
): Promise<InferenceResult> {
  const window = windows[0] as Int32Array
  const prompt = window.subarray(0, Math.max(1, window.length - settings.decoded))
  const models = report.dense ? [view, report.dense] : [view]
  const timings = models.map(() => new Timings())
  const total = settings.warmups + settings.repeats
  const load = watchLoad()
  for (let round = 0; round < total; round++) {
    const order = round % 2 === 0 ? [...models.keys()] : [...models.keys()].reverse()
    for (const index of order) {
      const turn = await takeTurn(
        models[index] as ModelView,
        { window, prompt, decoded: round < settings.warmups || round - settings.warmups >= 5 ? 0 : settings.decoded },
        report.signal,
      )
      if (round >= settings.warmups) timings[index]?.add(turn)
    }
    report.progress?.(round + 1, total)
  }
  const others = load()
  const [own, dense] = timings as [Timings, Timings | undefined]
  const measures = measuresOf(own, window.length, prompt.length)
  if (dense) measures.push(...fasterThan(own, dense))
  if (others !== null) measures.push({ ...loadMeasure, value: others, unit: 'share' })
  const noise = noiseOfTimes(measures)
  return {
    measures,
    notes:
      noise.length === 0 ? [] : [`Inference time is noisy: ${noise.join(', and ')}. Time it again on a quiet machine before quoting it.`],
  }
}

async function takeTurn(
  view: ModelView,
  { window, prompt, decoded }: { window: Int32Array; prompt: Int32Array; decoded: number },
  signal?: AbortSignal,
): Promise<Turn> {
  const pass = await timePass(view, window, signal)
  if (decoded === 0) return { pass }
  const { first, perToken } = await timeDecoding(view, prompt, decoded, signal)
  return { pass, first, rate: 1 / perToken }
}

function measuresOf(own: Timings, tokens: number, prompted: number): TakenMeasure[] {
  const [pass, first, rate] = [spread(own.of('pass')), spread(own.of('first')), spread(own.of('rate'))]
  return [
    { name: 'inference time', dataset: `${tokens} tokens`, value: 1000 * pass.median, error: 1000 * pass.spread, unit: 'ms' },
    { name: 'tokens per second', dataset: 'prefill', value: tokens / pass.median, unit: 'tokens/s' },
    { name: 'time to first token', dataset: `${prompted} tokens`, value: 1000 * first.median, error: 1000 * first.spread, unit: 'ms' },
    { name: 'tokens per second', dataset: 'decode', value: rate.median, error: rate.spread, unit: 'tokens/s' },
  ]
}

/** The speed-up over the dense model, from the pair of times in each round. */
function fasterThan(own: Timings, dense: Timings): TakenMeasure[] {
  const ratios = (key: 'pass' | 'rate') => {
    const theirs = dense.of(key)
    return own.of(key).map((value, turn) => (key === 'pass' ? at(theirs, turn) / value : value / at(theirs, turn)))
  }
  return (['pass', 'rate'] as const).map((key) => {
    const { median, spread: error } = spread(ratios(key))
    return { name: 'speed-up', dataset: key === 'pass' ? 'prefill' : 'decode', value: median, error, unit: '×' }
  })
}

/**
 * Starts to watch the processors. The returned function returns the share of their time that other programs have used since then; null if
 * the system does not report it.
 */
function watchLoad(): () => number | null {
  const before = { busy: busySeconds(), own: process.cpuUsage(), at: performance.now() }
  return () => {
    const whole = ((performance.now() - before.at) / 1000) * cpus().length
    const own = process.cpuUsage(before.own)
    const busy = busySeconds() - before.busy
    if (whole <= 0 || busy <= 0) return null
    return Math.min(1, Math.max(0, (busy - (own.user + own.system) / 1e6) / whole))
  }
}

function busySeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000
}
