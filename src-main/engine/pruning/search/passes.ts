import { at } from '#contract/at.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { Variant } from './trunk.ts'

/** Windows that went through an attention, an MLP, the head. */
export interface PassCount {
  attention: number
  mlp: number
  head: number
  /** Through attention or MLP, that were not made as what they give was remembered from earlier scoring. */
  recalled?: number
}

interface Sizes {
  readonly blocks: number
  /** Windows that candidates are scored on. */
  readonly windows: number
}

/**
 * The passes that a greedy search makes when candidates share what they have in common, from its removals alone: in each round every
 * candidate runs what follows it, and the trunk runs once what leads to a candidate from the nearest state an earlier round left.
 * `order` names the first part of each removal, `rounds` the parts of each candidate.
 */
export function greedyPasses({ blocks, windows }: Sizes, order: readonly number[], rounds: readonly (readonly number[])[][]): PassCount {
  const passes = { attention: 0, mlp: 0, head: 0 }
  const removed = new Set<number>()
  const parts = Array.from({ length: 2 * blocks }, (_, part) => part)
  let known = [0]
  const run = (part: number, without: ReadonlySet<number>) => {
    if (!without.has(part)) passes[part % 2 === 0 ? 'attention' : 'mlp'] += windows
  }
  for (const [round, candidates] of rounds.entries()) {
    for (const candidate of candidates) {
      const first = candidate[0] as number
      for (const part of parts.slice(first)) run(part, new Set([...removed, ...candidate]))
      passes.head += windows
    }
    const starts = candidates.map(([first]) => first as number)
    const nearest = (start: number) => Math.max(...known.filter((position) => position <= start))
    for (const part of parts) if (starts.some((start) => nearest(start) <= part && part < start)) run(part, removed)
    for (const part of candidates.find(([first]) => first === order[round]) ?? []) removed.add(part)
    // States behind the removal no longer hold.
    known = [...known, ...starts].filter((position) => position <= at(order, round))
  }
  return passes
}

/**
 * The same before the removals are known: they fall evenly among the candidates. `kinds` are those of each round, each with its candidates.
 * A `lazy` search scores that many of those that were scored before, which fall evenly, too; 0 scores all.
 */
export function likelyGreedyPasses(sizes: Sizes, kinds: readonly (readonly (readonly number[])[])[], lazy = 0): PassCount {
  const random = new PythonRandom(0)
  const gone = new Set<number>()
  const seen = new Set<number>()
  const order: number[] = []
  const rounds = kinds.map((candidates) => {
    const all = candidates.filter(([first]) => !gone.has(first as number)).map((candidate) => [...candidate])
    const isKnown = all.every(([first]) => seen.has(first as number))
    const left = lazy > 0 && lazy < all.length && isKnown ? random.sample(all, lazy) : all
    for (const [first] of left) seen.add(first as number)
    const first = left[random.integer(0, Math.max(0, left.length - 1))]?.[0] ?? 0
    gone.add(first)
    order.push(first)
    return left
  })
  return greedyPasses(sizes, order, rounds)
}

/** The passes of variants that share a branch up to where they differ, for one window. */
export function sharedPasses(variants: readonly Variant[]): PassCount {
  const passes = { attention: 0, mlp: 0, head: new Set(variants.map(String)).size }
  for (let part = 0; part < (variants[0]?.length ?? 0); part++) {
    const running = variants.filter((variant) => variant[part] === 0).map((variant) => String(variant.subarray(0, part)))
    passes[part % 2 === 0 ? 'attention' : 'mlp'] += new Set(running).size
  }
  return passes
}

/** What a pass takes that shows what its projections read, as a share of one that does not: streams are kept and copied meanwhile. */
export const watched = 1.5

export function timesPasses({ attention, mlp, head }: PassCount, times: number): PassCount {
  return { attention: attention * times, mlp: mlp * times, head: head * times }
}

export function addPasses(...counts: readonly PassCount[]): PassCount {
  const sum = (key: keyof PassCount) => counts.reduce((total, count) => total + (count[key] ?? 0), 0)
  const recalled = sum('recalled')
  return { attention: sum('attention'), mlp: sum('mlp'), head: sum('head'), ...(recalled > 0 ? { recalled } : {}) }
}
