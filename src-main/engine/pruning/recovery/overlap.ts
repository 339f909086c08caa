import type { Windows } from '#engine/data/windows.ts'

/** Two texts that share this many tokens in a row share a passage. */
const stretch = 32

/** Windows that share no run of tokens with any of `others`, at any position. */
export function withoutOverlap(windows: Windows, others: Windows): Int32Array[] {
  const known = new Set<string>()
  for (const other of others) for (let at = 0; at + stretch <= other.length; at += stretch) known.add(keyOf(other, at))
  if (known.size === 0) return [...windows]
  return windows.filter((window) => {
    for (let at = 0; at + stretch <= window.length; at++) if (known.has(keyOf(window, at))) return false
    return true
  })
}

const keyOf = (window: Int32Array, at: number): string => window.subarray(at, at + stretch).join()
