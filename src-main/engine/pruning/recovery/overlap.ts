import type { Windows } from '#engine/data/windows.ts'

/** Two windows that have this many tokens in a row in common share a passage. */
const stretch = 32

/** Returns the windows that share no passage with any of `others`, at any position. */
export function withoutOverlap(windows: Windows, others: Windows): Int32Array[] {
  const known = new Set<string>()
  for (const other of others) for (let start = 0; start + stretch <= other.length; start += stretch) known.add(keyOf(other, start))
  if (known.size === 0) return [...windows]
  return windows.filter((window) => {
    for (let start = 0; start + stretch <= window.length; start++) if (known.has(keyOf(window, start))) return false
    return true
  })
}

const keyOf = (window: Int32Array, start: number): string => window.subarray(start, start + stretch).join()
