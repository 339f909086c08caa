import { greedyPasses, type PassCount } from '#engine/pruning/search/passes.ts'
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
