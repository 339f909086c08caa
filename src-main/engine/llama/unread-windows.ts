import type { DecoderSpec } from '#engine/architectures/spec.ts'

/** Blocks of which one has no window, as this release of llama.cpp assumes for a family. Newer ones read it from the file. */
const windowPeriods: Readonly<Record<string, number>> = { gemma2: 2, gemma3: 6, gemma3_text: 6, gpt_oss: 2 }

/** Whether llama.cpp assumes other sliding windows than the file lists, because blocks were removed: its answers are then wrong. */
export function hasUnreadWindows(spec: DecoderSpec): boolean {
  const period = windowPeriods[spec.family]
  return period !== undefined && spec.blocks.some((_, index) => (spec.slidingWindow(index) !== undefined) !== ((index + 1) % period !== 0))
}
