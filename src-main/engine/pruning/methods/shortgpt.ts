import { z } from 'zod'
import type { Decision } from '#contract/runs/run.ts'
import { depthRange, requireBlocks } from '../budget.ts'
import { defineMethod } from '../method.ts'
import { blockParts, densePlan, presentBlocks, removeParts } from '../plan.ts'
import { comparingPhase, similaritiesFor, similarityOptions } from '../scores/block-similarity.ts'
import { smallest } from '../selection.ts'

/**
 * ShortGPT (arXiv 2403.03853): removes the blocks that change their input least. Influence is one minus the cosine of input and output.
 *
 * As in the 2SSP reference, only the last token of each window is compared, and the first block has influence 1. The paper scores all
 * tokens and every block; both are options. Repaired: scores are float64 means of float32 states.
 */
// Window-based pruning shares the other options.
const options = similarityOptions.extend({
  firstBlock: z.enum(['kept', 'scored']).default('kept').meta({
    title: 'First block',
    help: 'Sets the influence of the first block to 1, or scores it against the embedding, as in the paper.',
  }),
})

export const shortgpt = defineMethod({
  id: 'shortgpt',
  order: 3,
  title: 'ShortGPT',
  paper: '2403.03853',
  summary: 'Removes the blocks that change their input least.',
  unit: 'block',
  options,
  windows: ({ windows }) => windows,
  range: (spec) => depthRange(spec),
  work: (spec, { blocks }, chosen, windows) => (blocks === 0 ? [] : [comparingPhase(spec, chosen, windows)]),
  async plan(input) {
    const { view, budget, options: chosen, run } = input
    const plan = densePlan(view.spec)
    if (budget.blocks === 0) return { plan, decisions: [], notes: [] }
    const blocks = presentBlocks(view.spec)
    requireBlocks(budget.blocks, blocks.length)
    const similarities = (await similaritiesFor(input, 1, chosen))[1] ?? []
    const influence = similarities.map(({ cosine, angle }) => (chosen.similarity === 'angular' ? angle : 1 - cosine)) // [L]
    if (chosen.firstBlock === 'kept') influence[0] = 1
    const measure = chosen.similarity === 'angular' ? 'angle' : 'influence'
    const candidates = blocks.map((block) => ({ block, [measure]: influence[block] ?? 1 }))
    const removed = smallest(
      blocks.map((block) => influence[block] ?? 1),
      budget.blocks,
    ).map((index) => blocks[index] as number)
    const decisions = removed.map((block, index): Decision => {
      const earlier = removed.slice(0, index)
      return { round: index + 1, kind: 'block', block, scores: candidates.filter((candidate) => !earlier.includes(candidate.block)) }
    })
    for (const decision of decisions) run.emit({ type: 'decision', decision })
    return { plan: removeParts(plan, blockParts(removed)), decisions, notes: [] }
  },
})
