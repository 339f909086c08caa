import { copyStream } from '#engine/model/streams.ts'
import type { Stream } from '#engine/model/walk.ts'

/** A stream that some variants have shared so far. */
export interface Branch extends Stream {
  /** The indices of these variants in the list that is scored. */
  readonly variants: readonly number[]
}

/**
 * Divides branches before a part into those whose variants have it and those whose variants lack it. A branch with both kinds is copied.
 */
export function divideBranches(branches: readonly Branch[], lacks: (variant: number) => boolean): { having: Branch[]; lacking: Branch[] } {
  const having: Branch[] = []
  const lacking: Branch[] = []
  for (const branch of branches) {
    const without = branch.variants.filter(lacks)
    const rest = branch.variants.filter((variant) => !lacks(variant))
    if (without.length > 0) lacking.push({ ...(rest.length > 0 ? copyStream(branch) : branch), variants: without })
    if (rest.length > 0) having.push({ ...branch, variants: rest })
  }
  return { having, lacking }
}
