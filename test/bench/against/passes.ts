import { at } from '#contract/at.ts'
import type { PassCount } from '#engine/pruning/method.ts'
import type { Outcome } from './side.ts'

/** The formulas of a method: passes through the head as coded, and through the submodules with sharing. Undefined for searches that draw. */
export function expectedPasses(method: string, { blocks }: { blocks: number }, { decisions = [] }: Outcome): PassCount | undefined {
  const order = decisions.map(({ kind, block }) => 2 * block + (kind === 'mlp' ? 1 : 0))
  const rounds: number[][][] = []
  const removed = new Set<number>()
  for (const [round, part] of order.entries()) {
    const offset = method === 'blockpruner_submodule' ? round % 2 : 0
    const candidates = Array.from({ length: blocks }, (_, block) => [
      2 * block + offset,
      ...(method === 'blockpruner' ? [2 * block + 1] : []),
    ])
    rounds.push(candidates.filter(([first]) => !removed.has(first as number)))
    removed.add(part)
  }
  if (method !== '2ssp' && !method.startsWith('blockpruner')) return undefined
  return greedyPasses({ blocks, windows: 1 }, order, rounds)
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
function greedyPasses({ blocks, windows }: Sizes, order: readonly number[], rounds: readonly (readonly number[])[][]): PassCount {
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
    // States after the removal are no longer valid.
    known = [...known, ...starts].filter((position) => position <= at(order, round))
  }
  return passes
}
