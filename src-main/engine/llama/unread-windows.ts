import type { DecoderSpec } from '#engine/architectures/spec.ts'

/** This release of llama.cpp assumes that one in this many blocks of a family has no window. Newer releases read it from the file. */
const windowPeriods: Readonly<Record<string, number>> = { gemma2: 2, gemma3: 6, gemma3_text: 6, gpt_oss: 2 }

/**
 * Whether llama.cpp assumes sliding windows in other blocks than the file lists, because blocks were removed. Its answers would be wrong.
 */
export function hasUnreadWindows(spec: DecoderSpec): boolean {
  const period = windowPeriods[spec.family]
  return period !== undefined && spec.blocks.some((_, index) => (spec.slidingWindow(index) !== undefined) !== ((index + 1) % period !== 0))
}
