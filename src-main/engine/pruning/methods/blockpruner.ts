import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { scoreOf } from '#contract/pruning/candidates.ts'
import type { Decision } from '#contract/runs/run.ts'
import { methodTitles } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf, isAttention, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { depthRange, requireBlocks } from '../budget.ts'
import { defineMethod, type MethodInput, type MethodPhase, type MethodResult } from '../method.ts'
import { count } from '../options.ts'
import { densePlan, partsOf, presentBlocks, removeParts, variantOf, without } from '../plan.ts'
import { type Candidate, choosingGreedily, GreedySearch, greedyNotes, joinedRows, lazyOption, retiredOptions } from '../search/greedy.ts'
import { likelyGreedyPasses } from '../search/passes.ts'
import type { Variant } from '../search/trunk.ts'

/**
 * BlockPruner (arXiv 2406.10594): one after the other, the block or submodule goes without which perplexity is least.
 *
 * As in the 2SSP reference, one window decides and submodules go in pairs, an attention and then an MLP; the paper's free choice among
 * both and its many windows are options. Repaired: candidates are compared by their float64 loss, not a half-precision perplexity, so ties
 * are rare and reported (1, 2, 3); a round without a finite candidate is an error (4).
 */
const options = z.object({
  windows: count(1, { title: 'Windows', unit: 'windows', help: 'Calibration windows that score candidates; the paper takes 256.' }),
  ...lazyOption,
})

const submoduleOptions = options.extend({
  ratio: z.enum(['paired', 'free']).default('paired').meta({
    title: 'Ratio',
    help: 'As many attention submodules as MLPs, in turn; or whichever of both is best each time, as the paper does.',
  }),
})

type Options = z.infer<typeof options>

export const blockPruner = defineMethod({
  title: methodTitles.blockpruner,
  paper: '2406.10594',
  summary: 'Removes blocks one at a time, always the one whose removal raises perplexity least.',
  unit: 'block',
  options,
  retired: retiredOptions,
  windows: ({ windows }) => windows,
  range: (spec) => depthRange(spec),
  work: (spec, { blocks }, chosen, windows) => removalWork(spec, 'block', Array<Turn>(blocks).fill(['block']), chosen, windows),
  plan: (input) => {
    requireBlocks(input.budget.blocks, presentBlocks(input.view.spec).length)
    return removeGreedily(input, 'block', Array<Turn>(input.budget.blocks).fill(['block']))
  },
})

export const submoduleBlockPruner = defineMethod({
  title: methodTitles.blockpruner_submodule,
  paper: '2406.10594',
  summary: 'Removes attention submodules and MLPs one at a time, always the one whose removal raises perplexity least.',
  unit: 'submodule',
  options: submoduleOptions,
  retired: retiredOptions,
  windows: ({ windows }) => windows,
  range: (spec) => depthRange(spec),
  work: (spec, { blocks }, chosen, windows) => removalWork(spec, chosen.ratio, submoduleTurns(blocks, chosen.ratio), chosen, windows),
  plan: (input) => {
    const { budget, options: chosen, view } = input
    requireSubmodules(view.spec, budget.blocks, chosen.ratio)
    return removeGreedily(input, chosen.ratio, submoduleTurns(budget.blocks, chosen.ratio))
  },
})

function submoduleTurns(blocks: number, ratio: 'paired' | 'free'): Turn[] {
  const both: Turn[] = [['attention', 'mlp']]
  const turns: Turn[] = ratio === 'free' ? both : [['attention'], ['mlp']]
  return Array.from({ length: 2 * blocks }, (_, i) => turns[i % turns.length] as Turn)
}

/** Passes of the rounds that removals fall into evenly; in a round of either kind, candidates of both are scored. */
function removalWork(spec: DecoderSpec, label: string, turns: readonly Turn[], chosen: Options, available: number): MethodPhase[] {
  if (turns.length === 0) return []
  const windows = Math.min(chosen.windows, available)
  const dense = variantOf(densePlan(spec))
  const rounds = turns.map((kinds) => kinds.flatMap((kind) => candidatesOf(dense, kind).map(({ parts }) => [...parts])))
  const passes = likelyGreedyPasses({ blocks: spec.blocks.length, windows }, rounds, chosen.lazy)
  const choosing = choosingGreedily(chosen, spec.blocks.length)
  return [{ phase: removing, passes, choosing, rowsPerCall: joinedRows, shared: sharedName(label, windows, chosen) }]
}

/** The name of the work that runs with the same decisions share. */
function sharedName(label: string, windows: number, { lazy }: Options): string {
  return `blockpruner ${label}, ${windows} windows${lazy > 0 ? `, lazy ${lazy}` : ''}`
}

const removing = 'Removing'

type Kind = Decision['kind']
/** What one round may remove: the best of these kinds, the first one where they are equal. */
type Turn = readonly Kind[]

function requireSubmodules(spec: DecoderSpec, count: number, ratio: 'paired' | 'free'): void {
  const attention = spec.blocks.filter((layout) => layout.attention).length
  const mlps = spec.blocks.filter((layout) => layout.width > 0).length
  const most = ratio === 'free' ? Math.floor((attention + mlps) / 2) : Math.min(attention, mlps)
  if (count > most)
    throw new EspalierError(
      'infeasible',
      `${count} pairs of attention and MLP cannot go: the model has ${attention} and ${mlps} left. Choose at most ${most}.`,
    )
}

const roundStep: StepKind = { version: 1, reach: 'shared' }

/** Greedy orders are nested, so the rounds of a smaller count are the first ones of a larger: runs share them. */
async function removeGreedily(
  { view, calibration, options: chosen, run }: MethodInput<Options>,
  label: string,
  turns: readonly Turn[],
): Promise<MethodResult> {
  const windows = calibration.slice(0, chosen.windows)
  const { lazy } = chosen
  const search = new GreedySearch(view, windows, { lazy, run })
  const decisions: Decision[] = []
  let base = variantOf(densePlan(view.spec))
  try {
    for (const [index, kinds] of turns.entries()) {
      const round = index + 1
      run.progress(removing, index, turns.length, 'rounds')
      const on = { windows, lazy, kinds, earlier: decisions }
      const decision = await run.step({ kind: roundStep, label: `removing by ${label}, round ${round}`, on }, () =>
        decideAmong(search, base, kinds, round, decisions),
      )
      run.emit({ type: 'decision', decision })
      decisions.push(decision)
      base = without(base, candidateParts(base, decision.kind, decision.block))
    }
    run.progress(removing, turns.length, turns.length, 'rounds')
    const plan = removeParts(densePlan(view.spec), partsOf(base))
    return { plan, decisions, notes: greedyNotes(decisions, chosen) }
  } finally {
    search.dispose()
  }
}

async function decideAmong(
  search: GreedySearch,
  base: Variant,
  kinds: Turn,
  round: number,
  earlier: readonly Decision[],
): Promise<Decision> {
  const decisions: Decision[] = []
  for (const kind of kinds) {
    const candidates = candidatesOf(base, kind)
    if (candidates.length > 0 || kinds.length === 1) decisions.push(await search.decide(base, candidates, { round, kind, earlier }))
  }
  return decisions.reduce((best, next) => (bestScore(next) < bestScore(best) ? next : best))
}

/** The score of the candidate that goes, which is exact. */
const bestScore = ({ scores, block }: Decision): number =>
  Math.min(...scores.flatMap((score) => (score.block === block ? scoreOf(score).value : [])))

function candidatesOf(base: Variant, kind: Kind): Candidate[] {
  const blocks = Array.from({ length: base.length / 2 }, (_, block) => ({ block, parts: candidateParts(base, kind, block) }))
  return blocks.filter(({ parts }) => parts.length > 0)
}

/** The parts of a block that a removal of this kind takes away. */
function candidateParts(base: Variant, kind: Kind, block: number): Part[] {
  const wanted = (part: Part) => kind === 'block' || (kind === 'attention') === isAttention(part)
  return [attentionOf(block), mlpOf(block)].filter((part) => base[part] === 0 && wanted(part))
}
