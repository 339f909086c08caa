import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import type { Decision } from '#contract/runs/run.ts'
import { depthRange } from '../budget.ts'
import { defineMethod } from '../method.ts'
import { blockParts, densePlan, presentBlocks, removeParts } from '../plan.ts'
import { comparingPhase, type Similarity, similaritiesFor, similarityOptions } from '../scores/block-similarity.ts'

/**
 * Window-based pruning (arXiv 2403.17887): removes the run of consecutive blocks whose input and output are most similar.
 *
 * As in the 2SSP reference, the mean cosine at the last token decides, and no run begins at the first block. The paper's angle and runs
 * from the first block are options. Of equally similar runs the later one is removed, as in the reference. Repaired: runs with a negative
 * cosine count too.
 */
const options = similarityOptions.extend({
  firstBlock: z
    .enum(['kept', 'free'])
    .default('kept')
    .meta({ title: 'First block', help: 'Keeps the first block, or lets the removed run of blocks begin with it, as in the paper.' }),
})

export const windowBased = defineMethod({
  id: 'window_based',
  order: 4,
  title: 'Window-based',
  paper: '2403.17887',
  summary: 'Removes the run of consecutive blocks whose input and output are most similar.',
  unit: 'block',
  options,
  windows: ({ windows }) => windows,
  range: (spec) => depthRange(spec),
  work: (spec, { blocks }, chosen, windows) => (blocks === 0 ? [] : [comparingPhase(spec, chosen, windows)]),
  async plan(input) {
    const { view, budget, options: chosen, run } = input
    const plan = densePlan(view.spec)
    const count = budget.blocks
    if (count === 0) return { plan, decisions: [], notes: [] }
    const blocks = presentBlocks(view.spec)
    const start = chosen.firstBlock === 'free' ? 0 : 1
    if (count > blocks.length - start) {
      throw new EspalierError(
        'infeasible',
        `A run of ${count} blocks is too long: only ${blocks.length - start} blocks of this model may be removed. Choose at most ${blocks.length - start}.`,
      )
    }
    if (blocks.length < view.spec.blocks.length) {
      throw new EspalierError(
        'infeasible',
        'Whole blocks of this model are already removed, so its runs have gaps. Start from the dense model.',
      )
    }
    // The similarity of states s and s + count belongs to the run that begins at block s.
    const runs = ((await similaritiesFor(input, count, chosen))[count] ?? []).slice(start)
    const score = ({ cosine, angle }: Similarity) => (chosen.similarity === 'angular' ? -angle : cosine)
    const scores = runs.map(score)
    const best = start + scores.lastIndexOf(Math.max(...scores))
    const removed = Array.from({ length: count }, (_, i) => best + i)
    const candidates = runs.map(({ cosine, angle }, index) => ({
      block: start + index,
      ...(chosen.similarity === 'angular' ? { angle } : { similarity: cosine }),
    }))
    const decisions = removed.map((block, index): Decision => {
      return { round: index + 1, kind: 'block', block, scores: index === 0 ? candidates : [] }
    })
    for (const decision of decisions) run.emit({ type: 'decision', decision })
    return { plan: removeParts(plan, blockParts(removed)), decisions, notes: [] }
  },
})
