import type { TextLook } from '#contract/data/data-calls.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openSpec } from '#engine/model/model.ts'

/** The maximum number of windows that are counted. A text with more is long enough for any run. */
const mostWindows = 4096
const beginningCharacters = 400
/** Length in tokens of the passages that are searched for in both texts. */
const passageTokens = 24

/**
 * Describes a text: how many windows it gives for a model, how it begins, and how much of it also occurs in `against`. Reads no weights.
 */
export async function lookAtText(path: string, data: DataRequest, against: DataRequest | undefined): Promise<TextLook> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  const tokenizer = await openModelTokenizer({ path, spec })
  const read = (request: DataRequest) =>
    readData({ spec }, tokenizer, { ...request, windows: Math.min(request.windows ?? mostWindows, mostWindows) }, 0, {})
  const { windows, split = null } = await read(data)
  const first = windows[0] ?? new Int32Array()
  return {
    windows: windows.length,
    more: windows.length === mostWindows && (data.windows ?? Number.POSITIVE_INFINITY) > mostWindows,
    sequenceLength: data.sequenceLength,
    beginning: tokenizer ? tokenizer.decode([...first]).slice(0, beginningCharacters) : [...first.slice(0, 40)].join(' '),
    part: split,
    overlap: against ? sharedPassages(windows, (await read(against)).windows) : null,
  }
}

/** The share of consecutive passages of `windows` that occur anywhere in `others`. */
export function sharedPassages(windows: Windows, others: Windows): number {
  const length = Math.min(passageTokens, ...windows.map((window) => window.length), ...others.map((window) => window.length))
  const known = new Set<string>()
  for (const window of others) {
    for (let at = 0; at + length <= window.length; at++) known.add(passageAt(window, at, length))
  }
  let shared = 0
  let all = 0
  for (const window of windows) {
    for (let at = 0; at + length <= window.length; at += length) {
      all += 1
      if (known.has(passageAt(window, at, length))) shared += 1
    }
  }
  return all === 0 ? 0 : shared / all
}

/** A key for a passage that takes half the memory of its ids. Two different passages have the same key with a probability of 1 in 2^64. */
function passageAt(window: Int32Array, at: number, length: number): string {
  let one = 0x811c9dc5
  let two = 0x01000193
  for (let i = at; i < at + length; i++) {
    one = Math.imul(one ^ (window[i] as number), 0x01000193)
    two = Math.imul(two ^ (window[i] as number), 0x85ebca6b) + i - at
  }
  return `${one >>> 0} ${two >>> 0}`
}
