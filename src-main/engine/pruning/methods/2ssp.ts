import { z } from 'zod'
import type { Decision } from '#contract/run.ts'
import type { ModelView } from '#engine/model/view.ts'
import { viewWithPlan } from '#engine/model/view.ts'
import { blockOf, isAttention } from '#engine/model/weights.ts'
import { splitTwoStage, stackRange } from '../budget.ts'
import { GreedySearch, tieNotes } from '../greedy.ts'
import { defineMethod, type MethodInput } from '../method.ts'
import { densePlan, removeParts, variantOf, without } from '../plan.ts'
import { columnNorms, type NormKind } from '../scores/neuron-norms.ts'
import { largest } from '../selection.ts'

/**
 * 2SSP (arXiv 2501.17771): first the MLP neurons with the smallest activations go, equally many in every block;
 * then the attention submodules whose removal raises perplexity least, one by one.
 *
 * Repairs of the reference: scores are summed in float64 and ties go to the lower index (5); candidates are compared by their
 * float64 loss, not a half-precision perplexity (1, 2, 3); a round without a finite candidate and a split that cannot be reached
 * are errors (4, 15).
 */
const options = z.object({
  alpha: z
    .number()
    .positive()
    .default(1.5)
    .meta({ title: 'Alpha', help: 'Balance of the two stages in Eq. 5: a larger one removes more attention.' }),
  norm: z
    .union([z.literal(1), z.literal(2)])
    .default(2)
    .meta({ title: 'Norm', help: 'Norm of a neuron over the tokens of a window.' }),
  windows: z
    .number()
    .int()
    .positive()
    .default(32)
    .meta({ title: 'Stage 1 windows', unit: 'windows', help: 'Calibration windows that score neurons.' }),
  stage2Windows: z.number().int().positive().default(1).meta({
    title: 'Stage 2 windows',
    unit: 'windows',
    help: 'Calibration windows that score attention; one lets the choice fit that window.',
  }),
  attention: z
    .number()
    .int()
    .nonnegative()
    .optional()
    .meta({ title: 'Attention submodules', help: 'How many go, in place of what Eq. 5 gives.' }),
  widthMultiple: z.number().int().positive().default(1).meta({
    title: 'Width multiple',
    unit: 'neurons',
    help: 'Rounds the width kept to a multiple that suits the hardware; the reached sparsity is shown.',
  }),
  screening: z.number().int().nonnegative().default(0).meta({
    title: 'Screening',
    unit: 'finalists',
    help: 'Ranks candidates on a quarter of the window and scores only this many in full; 0 scores all.',
  }),
})

type Options = z.infer<typeof options>

export const twoStage = defineMethod({
  title: '2SSP',
  paper: '2501.17771',
  summary: 'Removes weak MLP neurons in every block, then the attention submodules that matter least.',
  unit: 'neurons and attention',
  options,
  windows: ({ windows, stage2Windows }) => Math.max(windows, stage2Windows),
  range: (spec, { alpha, attention }) => stackRange(spec, alpha, attention),
  async plan(input) {
    const { view, budget, options: chosen, run } = input
    if (budget.sparsity === 0) return { plan: densePlan(view.spec), decisions: [], notes: [] }
    const split = splitTwoStage(view.spec, budget.sparsity, chosen.alpha, chosen.attention)
    const neurons = Math.min(
      split.width,
      Math.max(chosen.widthMultiple, Math.round(split.neurons / chosen.widthMultiple) * chosen.widthMultiple),
    )
    const width = await selectNeurons(input, neurons)
    run.emit({ type: 'width', kept: width.kept.map((block) => block.length), of: split.width })
    const plan = densePlan(view.spec)
    plan.blocks.forEach((block, index) => {
      if (block.mlp !== 'removed') block.mlp = { kept: width.kept[index] ?? [] }
    })
    const decisions = await removeAttention(input, viewWithPlan(view.model, plan), split.attention)
    return {
      plan: removeParts(
        plan,
        decisions.map(({ block }) => 2 * block),
      ),
      decisions,
      notes: [...width.notes, ...tieNotes(decisions)],
    }
  },
})

/** Stage 1: the neurons of each block with the largest mean norm; which stay, and where the cut was a tie. */
async function selectNeurons({ view, calibration, options: chosen, run }: MethodInput<Options>, count: number) {
  const norm: NormKind = chosen.norm === 1 ? 'l1' : 'l2'
  const windows = calibration.slice(0, chosen.windows)
  const scores = await run.sharedStep(`neuron norms ${norm}, ${windows.length} windows`, async () => {
    const request = { site: 'neurons', norm } as const
    const norms = await columnNorms(view, windows, [request], {
      progress: (done, total) => run.progress('Stage 1: scoring neurons', done, total, 'submodules'),
      signal: run.signal,
    })
    return (norms.get(request) ?? []).map((block) => Array.from(block))
  })
  const selections = scores.map((block) => largest(block, count))
  run.emit({ type: 'neuron scores', scores, cuts: selections.map(({ cut }) => cut) })
  const notes = selections.flatMap(({ margin }, block) =>
    margin < 1e-6
      ? [`Block ${block}: the last neuron kept and the first removed differ by ${margin.toExponential(1)} relative, a tie within float32.`]
      : [],
  )
  return { kept: selections.map(({ indices }) => indices), notes }
}

/** Stage 2: one attention submodule after the other, each the one whose removal leaves the least perplexity. */
async function removeAttention(
  { calibration, options: chosen, run }: MethodInput<Options>,
  pruned: ModelView,
  count: number,
): Promise<Decision[]> {
  const search = new GreedySearch(pruned, calibration.slice(0, chosen.stage2Windows), { screening: chosen.screening, run })
  const decisions: Decision[] = []
  let base = variantOf(densePlan(pruned.spec))
  try {
    for (let round = 1; round <= count; round++) {
      const candidates = [...base.keys()]
        .filter((part) => isAttention(part) && base[part] === 0)
        .map((part) => ({ block: blockOf(part), parts: [part] }))
      run.progress('Stage 2: removing attention', round - 1, count, 'rounds')
      const decision = await run.step(`stage 2, round ${round}`, () => search.decide(base, candidates, round, 'attention'))
      run.emit({ type: 'decision', decision })
      decisions.push(decision)
      base = without(base, [2 * decision.block])
    }
    if (count > 0) run.progress('Stage 2: removing attention', count, count, 'rounds')
    return decisions
  } finally {
    search.dispose()
    pruned.dispose()
  }
}
