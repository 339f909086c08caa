import { type BenchedFile, type Figure, promptsUpTo, usualRounds } from '#contract/exports/file-bench.ts'
import type { TakenMeasure } from '#contract/runs/measures.ts'
import { inLlama } from '#contract/runs/time/speed.ts'
import { benchFiles } from '#engine/llama/bench-files.ts'
import { ownThreads } from '#runtime/threads.ts'

/**
 * Measures a GGUF file in llama.cpp on this machine's processor: rates of prefill and decode, times to the first token, memory, and bytes
 * of the KV cache. Values are medians of all turns, and `error` is half the distance between the lowest and the highest. With `dense`, the
 * two files take turns, and the speed-ups are ratios of the medians.
 */
export async function fileTimes(
  file: string,
  dense: string | undefined,
  { sequenceLength, repeats }: { sequenceLength: number; repeats: number },
  report: { signal: AbortSignal; progress(done: number, total: number): void },
): Promise<TakenMeasure[]> {
  const settings = {
    prompts: promptsUpTo(sequenceLength),
    rounds: Math.min(repeats, usualRounds),
    threads: ownThreads(),
    device: 'CPU',
    texts: [],
  }
  const { files } = await benchFiles(dense === undefined ? [file] : [file, dense], settings, report)
  const [own, other] = files as [BenchedFile, BenchedFile | undefined]
  return [...costsOf(own), ...(other ? speedUps(own, other) : [])]
}

function costsOf({ prefill, decode, firstToken, memoryBytes, keyValueBytes }: BenchedFile): TakenMeasure[] {
  const times = firstToken.map(({ tokens, seconds: { value, low, high } }) => ({
    name: 'time to first token' as const,
    dataset: inLlama(`${tokens} tokens`),
    value: 1000 * value,
    error: (1000 * (high - low)) / 2,
    unit: 'ms',
  }))
  return [
    rate('prefill', prefill),
    rate('decode', decode),
    ...times,
    { name: 'memory', dataset: inLlama(`${firstToken.at(-1)?.tokens} tokens`), value: memoryBytes, unit: 'bytes' },
    { name: 'KV cache per token', dataset: inLlama(), value: keyValueBytes, unit: 'bytes' },
  ]
}

const rate = (what: string, { value, low, high }: Figure): TakenMeasure => ({
  name: 'tokens per second',
  dataset: inLlama(what),
  value,
  error: (high - low) / 2,
  unit: 'tokens/s',
})

/** The speed-ups over the other file. */
function speedUps(own: BenchedFile, other: BenchedFile): TakenMeasure[] {
  return (['prefill', 'decode'] as const).map((what) => ({
    name: 'speed-up',
    dataset: inLlama(what),
    value: own[what].value / other[what].value,
    unit: '×',
  }))
}
