import { z } from 'zod'
import { expertScore, expertScores } from '#contract/pruning/experts.ts'
import type { DecoderSpec, RouterKind } from '#engine/architectures/spec.ts'
import type { Budget } from '../budget.ts'
import { expertsToRemove, likelyGone, lowestRankedExperts, planWithoutExperts, removableExperts, shareOf } from '../experts/expert-plan.ts'
import {
  constantsFor,
  correctGates,
  correctionPhase,
  judgeExperts,
  rankBy,
  scoringPhase,
  statisticsFor,
} from '../experts/expert-statistics.ts'
import { requireRaisedGates } from '../experts/gate-correction.ts'
import { count, defineMethod } from '../method.ts'
import { densePlan, reachedSparsity } from '../plan.ts'

/**
 * REAP (arXiv 2510.13999): removes the experts of each mixture that add least to the stream when they are chosen, the same number from
 * every mixture.
 *
 * We added options: MoNE's constants, a budget over all blocks, and scores over all tokens or by frequency. The factor of an expert is the
 * one that multiplies its output in this model. It is renormalised only where the model does so.
 */
const options = z
  .object({
    score: expertScore.default('reap').meta({
      title: 'Score',
      help: `Experts with the lowest score are removed first. reap: ${expertScores.reap}; reap_sum: ${expertScores.reap_sum}; count: ${expertScores.count}.`,
    }),
    budget: z.enum(['uniform', 'free']).default('uniform').meta({
      title: 'Budget',
      help: 'Removes the same number of experts from every block, which every format can store, or the lowest-scoring experts of all blocks.',
    }),
    removed: z.enum(['dropped', 'constant']).default('dropped').meta({
      title: 'Removed experts',
      help: 'Drops removed experts, or replaces each with a constant vector, which only the formats exact and vllm-experts can store.',
    }),
    constants: z.enum(['mean', 'fitted']).default('mean').meta({
      title: 'Constants',
      help: 'What replaces a removed expert: its mean output, or the least-squares fit to what it added.',
    }),
    superExperts: z.enum(['kept', 'scored']).default('kept').meta({
      title: 'Super experts',
      help: 'Keeps the few experts with the largest outputs as long as others can be removed, or treats them like all others.',
    }),
    gateCorrection: z.enum(['none', 'fitted']).default('none').meta({
      title: 'Gate correction',
      help: 'If routers do not renormalise (OLMoE, Qwen2 MoE), the remaining experts gain weight when others are removed. fitted: scales them, block by block, so that their output fits that of the unpruned mixture.',
    }),
    windows: count(32, { title: 'Windows', unit: 'windows', help: 'Calibration windows used to score experts.' }),
  })
  .refine(({ removed, constants }) => removed === 'constant' || constants === 'mean', {
    path: ['constants'],
    error: 'Removed experts are dropped, so there is nothing to fit. Choose removed=constant, or constants=mean.',
  })
  .refine(({ removed, gateCorrection }) => removed === 'dropped' || gateCorrection === 'none', {
    path: ['gateCorrection'],
    error:
      'The router still knows experts that became constants, so no other gains weight. Choose removed=dropped, or gateCorrection=none.',
  })

type ReapOptions = z.infer<typeof options>

export const reap = defineMethod({
  id: 'reap',
  order: 10,
  title: 'REAP',
  paper: '2510.13999',
  summary: 'Removes the experts of each mixture that add least when they are chosen.',
  unit: 'experts',
  options,
  windows: ({ windows }) => windows,
  range: (spec, { removed }) => ({ least: 0, most: mostRemoved(spec, removed) }),
  outline(spec, budget, chosen) {
    const none = { attentionRemoved: 0, blocksRemoved: null, neuronsRemovedPerBlock: 0 }
    const [plan = densePlan(spec)] = likelyPlans(spec, budget, chosen)
    return { ...none, expertsRemoved: countGone(spec, budget, chosen), reached: reachedSparsity(spec, plan) }
  },
  work(spec, { sparsity }, chosen, available) {
    const windows = Math.min(chosen.windows, available)
    if (sparsity === 0) return []
    return [scoringPhase(spec, windows), ...(chosen.gateCorrection === 'none' ? [] : [correctionPhase(spec, windows)])]
  },
  boundingPlans: likelyPlans,
  async plan(input) {
    const { view, budget, options: chosen } = input
    const { spec } = view
    if (budget.sparsity === 0) return { plan: densePlan(spec), decisions: [], notes: [] }
    const wanted = wantedExperts(spec, budget, chosen)
    const outputs = chosen.removed === 'constant' ? chosen.constants : undefined
    const { tensors, ...statistics } = await statisticsFor(input, { outputs })
    const experts = judgeExperts(statistics, chosen.score, (spec.router as RouterKind).chosen, spec.blocks.length)
    const gone = lowestRankedExperts(spec, wanted, chosen.budget, rankBy(experts, chosen.superExperts))
    const plan = planWithoutExperts(spec, gone, chosen.removed)
    const constants = tensors && outputs && (await constantsFor(input, gone, { outputs, means: tensors }))
    if (chosen.gateCorrection === 'fitted') return { plan: await correctGates(input, plan), decisions: [], notes: [], experts }
    return { plan, decisions: [], notes: [], experts, ...(constants ? { tensors: constants } : {}) }
  },
})

type Amount = Pick<Budget, 'sparsity' | 'experts'>

function wantedExperts(spec: DecoderSpec, { sparsity, experts }: Amount, { budget, removed, gateCorrection }: ReapOptions): number[] {
  if (gateCorrection === 'fitted') requireRaisedGates(spec)
  return expertsToRemove(spec, experts ?? shareOf(spec, sparsity, removed), budget)
}

function countGone(spec: DecoderSpec, budget: Amount, chosen: ReapOptions): number {
  return budget.sparsity === 0 ? 0 : wantedExperts(spec, budget, chosen).reduce((sum, own) => sum + own, 0)
}

/**
 * Returns plans without the first experts of each block, with the numbers spread evenly and unevenly. The size of a file does not depend on
 * which experts are removed.
 */
function likelyPlans(spec: DecoderSpec, budget: Amount, chosen: ReapOptions) {
  if (budget.sparsity === 0) return [densePlan(spec)]
  const ends = likelyGone(spec, wantedExperts(spec, budget, chosen), chosen.budget)
  return ends.map((gone) => planWithoutExperts(spec, gone, chosen.removed))
}

function mostRemoved(spec: DecoderSpec, removed: ReapOptions['removed']): number {
  if (!spec.router) return 0
  const [most = new Map()] = likelyGone(spec, removableExperts(spec), 'uniform')
  return reachedSparsity(spec, planWithoutExperts(spec, most, removed))
}
