import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { depthRange, requireBlocks } from '../budget.ts'
import { count, defineMethod, type MethodInput, type MethodPhase, type MethodResult } from '../method.ts'
import { densePlan, partsOf, presentBlocks, removeParts, variantOf } from '../plan.ts'
import { greedyNotes, joinedRows, lazyOption, removeGreedily, type Turn } from '../search/greedy.ts'
import { countSearch, type SearchMeans, VariantRanking } from '../search/variant-ranking.ts'

/**
 * BlockPruner (arXiv 2406.10594): removes blocks or submodules one at a time, always the one whose removal leaves the lowest perplexity.
 *
 * As in the 2SSP reference, one window decides, and submodules are removed in pairs: an attention submodule and then an MLP. The paper's
 * free choice among both and its many windows are options. Repaired: candidates are compared by their float64 loss instead of a
 * half-precision perplexity, so ties are rare and are reported. A round without a finite candidate is an error.
 */
const options = z.object({
  windows: count(1, { title: 'Windows', unit: 'windows', help: 'Calibration windows used to score candidates; the paper uses 256.' }),
  ...lazyOption,
})

const submoduleOptions = options.extend({
  ratio: z.enum(['paired', 'free']).default('paired').meta({
    title: 'Ratio',
    help: 'Removes attention submodules and MLPs in turn, the same number of each; or whichever is the better choice each time, as in the paper.',
  }),
})

type Options = z.infer<typeof options>

export const blockPruner = defineMethod({
  id: 'blockpruner',
  order: 5,
  title: 'BlockPruner, whole blocks',
  paper: '2406.10594',
  summary: 'Removes blocks one at a time, always the one whose removal raises perplexity least.',
  unit: 'block',
  options,
  windows: ({ windows }) => windows,
  range: (spec) => depthRange(spec),
  work: (spec, { blocks }, chosen, windows) => removalWork(spec, blockRemoval(blocks), chosen, windows),
  plan: (input) => {
    requireBlocks(input.budget.blocks, presentBlocks(input.view.spec).length)
    return removalPlan(input, blockRemoval(input.budget.blocks))
  },
})

export const submoduleBlockPruner = defineMethod({
  id: 'blockpruner_submodule',
  order: 6,
  title: 'BlockPruner',
  paper: '2406.10594',
  summary: 'Removes attention submodules and MLPs one at a time, always the one whose removal raises perplexity least.',
  unit: 'submodule',
  options: submoduleOptions,
  windows: ({ windows }) => windows,
  range: (spec) => depthRange(spec),
  work: (spec, { blocks }, chosen, windows) => removalWork(spec, submoduleRemoval(blocks, chosen.ratio), chosen, windows),
  plan: (input) => {
    const { budget, options: chosen, view } = input
    requireSubmodules(view.spec, budget.blocks, chosen.ratio)
    return removalPlan(input, submoduleRemoval(budget.blocks, chosen.ratio))
  },
})

function blockRemoval(blocks: number): Removal {
  return { label: 'block', turns: Array<Turn>(blocks).fill(['block']) }
}

function submoduleRemoval(blocks: number, ratio: 'paired' | 'free'): Removal {
  const both: Turn[] = [['attention', 'mlp']]
  const turns: Turn[] = ratio === 'free' ? both : [['attention'], ['mlp']]
  return { label: ratio, turns: Array.from({ length: 2 * blocks }, (_, i) => turns[i % turns.length] as Turn) }
}

const removing = 'Removing'

function requireSubmodules(spec: DecoderSpec, count: number, ratio: 'paired' | 'free'): void {
  const attention = spec.blocks.filter((layout) => layout.attention).length
  const mlps = spec.blocks.filter((layout) => layout.width > 0).length
  const most = ratio === 'free' ? Math.floor((attention + mlps) / 2) : Math.min(attention, mlps)
  if (count > most)
    throw new EspalierError(
      'infeasible',
      `${count} pairs of attention and MLP cannot be removed: the model has ${attention} attention submodules and ${mlps} MLPs left. Choose at most ${most}.`,
    )
}

const roundStep: StepKind = { version: 2, reach: 'shared' }

/** What is removed in each round. */
interface Removal {
  /** Names the rounds, so that runs with the same decisions share them. */
  readonly label: 'block' | 'paired' | 'free'
  readonly turns: readonly Turn[]
}

function search(means: SearchMeans, spec: DecoderSpec, { label, turns }: Removal, { lazy }: Options) {
  const labelOf = (round: number) => `removing by ${label}, round ${round}`
  return removeGreedily(means, variantOf(densePlan(spec)), turns, { phase: removing, step: roundStep, labelOf, lazy })
}

async function removalWork(spec: DecoderSpec, removal: Removal, chosen: Options, available: number): Promise<MethodPhase[]> {
  if (removal.turns.length === 0) return []
  const windows = Math.min(chosen.windows, available)
  const counted = await countSearch(removing, spec, windows, (means) => search(means, spec, removal, chosen))
  const shared = `blockpruner ${removal.label}, ${windows} windows, lazy ${chosen.lazy}`
  return [{ ...counted, rowsPerCall: joinedRows, shared }]
}

async function removalPlan({ view, calibration, options: chosen, run }: MethodInput<Options>, removal: Removal): Promise<MethodResult> {
  const rank = (windows: Windows) => new VariantRanking(view, windows, { signal: run.signal })
  const means = { run, rank, windows: calibration.slice(0, chosen.windows) }
  const { decisions, removed } = await search(means, view.spec, removal, chosen)
  return { plan: removeParts(densePlan(view.spec), partsOf(removed)), decisions, notes: greedyNotes(decisions, chosen) }
}
