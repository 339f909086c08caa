import { z } from 'zod'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Fit } from '#contract/pruning/fit.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { equationOperations, solvingOperations } from '#engine/pruning/repair/repair-memory.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { Budget, CostLimit } from '../budget.ts'
import { sumBlocks, tableSumming } from '../fit/block-sums.ts'
import { measuredTokens, measureTable, tableMeasuring } from '../fit/divergences.ts'
import { extremePlans, limitsOf, mostRemoved, neuronParameters, requireUniform, tableWidths } from '../fit/limits.ts'
import {
  type DivergenceTable,
  type FittedShape,
  fitShape,
  inNeurons,
  type ProgrammeLimits,
  planOf,
  type WidthPoints,
} from '../fit/programme.ts'
import { fitWithin, shapeCosts } from '../fit/width-costs.ts'
import { count, defineMethod, type MethodInput, type MethodPhase, type MethodResult, watched, widthUnit } from '../method.ts'
import { densePlan, reachedSparsity, roundedNote } from '../plan.ts'
import { descending } from '../selection.ts'

/**
 * 2SSP, fitted: removes the same units as 2SSP, which are MLP neurons by the norm of their activations (arXiv 2501.17771, Eq. 2) and whole
 * attention submodules. But widths differ by block, and attention is chosen together with them.
 *
 * The units and the score of a neuron are the paper's. How many of each are removed is ours. A table holds what each width of a block and
 * each removed attention submodule cost in divergence from the dense model. It is measured around a model whose MLPs are all as narrow as
 * 2SSP makes them at sparsity 0.5 and are repaired in closed form. An exact programme then finds the best entries within the budget. The
 * table does not depend on the sparsity. It only ranks, so `mixed` computes it with 16-bit operands. The plan is meant to be repaired
 * afterwards.
 */
const options = z.object({
  windows: z.number().int().min(8).default(32).meta({
    title: 'Windows',
    unit: 'windows',
    help: 'Calibration windows used to score neurons, and to repair the narrowed MLPs that the table describes.',
  }),
  tableWindows: count(3, {
    title: 'Table windows',
    unit: 'windows',
    help: 'Additional calibration windows used to measure divergences.',
  }),
  unit: widthUnit(32),
  least: z.number().int().positive().optional().meta({
    title: 'Smallest width',
    unit: 'neurons',
    help: 'Minimum number of neurons that an MLP keeps. Default: three sixteenths of the width.',
  }),
})

type Options = z.infer<typeof options>
type Input = MethodInput<Options>

export const fittedTwoStage = defineMethod({
  id: '2ssp_fit',
  order: 2,
  title: '2SSP, fitted',
  paper: '2501.17771',
  own: true,
  summary: 'Chooses the width of each MLP together with the attention submodules to remove, by measured divergence.',
  unit: 'neurons and attention',
  options,
  repair: 'in-order',
  windows: ({ windows, tableWindows }) => windows + tableWindows,
  range: (spec, chosen) => ({ least: 0, most: Math.floor(100 * mostRemoved(spec, chosen)) / 100 }),
  outline(spec, { sparsity }, chosen) {
    requireUniform(spec)
    const { unit, budget, width } = limitsOf(spec, sparsity, chosen)
    const stack = stackParameters(spec)
    const cut = spec.blocks.length * width - Math.floor(budget / unit) * unit
    const reached = sparsity === 0 ? 0 : (cut * neuronParameters(spec)) / stack
    return { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null, reached }
  },
  work: fittedWork,
  boundingPlans: (spec, { sparsity }, chosen) =>
    sparsity === 0 ? [densePlan(spec)] : extremePlans(spec, limitsOf(spec, sparsity, chosen)),
  plan: (input) => planFitted(input),
})

/** No entry of the table is scored again in float32. */
const ranked = { again: 0 }

/** Returns the work of the pass over the blocks and of the table. It is the same for all sparsities. */
function fittedWork(spec: DecoderSpec, { sparsity }: Budget, chosen: Options, available: number): MethodPhase[] {
  if (sparsity === 0) return []
  const limits = limitsOf(spec, sparsity, chosen)
  const { base, widths } = tableWidths(spec, limits)
  const blocks = spec.blocks.length
  const all = Math.min(available, chosen.windows + chosen.tableWindows)
  const measured = measuredWindows(all, chosen)
  const fitted = all - measured
  const shared = `fitted table, ${fitted} and ${measured} windows`
  const solving = (width: number) => blocks * solvingOperations(width, spec.hidden)
  // The products of neurons with themselves and with what attention writes, counted as passes through an MLP.
  const summing = (limits.width + spec.hidden) / neuronParameters(spec)
  const behind = (widths.length * measured * blocks * (blocks + 1)) / 2
  return [
    {
      phase: tableSumming,
      choosing: ranked,
      passes: { attention: watched * blocks * fitted, mlp: (watched + summing) * blocks * fitted, head: 0 },
      float64Operations: () => blocks * equationOperations(0, base, spec.hidden),
      shared,
    },
    {
      phase: tableMeasuring,
      choosing: ranked,
      longest: measuredTokens,
      passes: { attention: behind, mlp: (behind * base) / limits.width, head: widths.length * measured * blocks + 3 * measured },
      float64Operations: () => widths.reduce((sum, own) => sum + solving(own), 0),
      shared: `${shared}, measured`,
    },
  ]
}

const tableStep: StepKind = { version: 2, reach: 'shared' }

async function planFitted(input: Input): Promise<MethodResult> {
  const { view, budget, options: chosen, run } = input
  if (budget.sparsity === 0) return { plan: densePlan(view.spec), decisions: [], notes: [] }
  requireUniform(view.spec)
  const limits = limitsOf(view.spec, budget.sparsity, chosen)
  const { fitted, table: tableWindows } = splitCalibration(input)
  const widths = tableWidths(view.spec, limits)
  const sums = await sumBlocks(view, fitted, widths.base, run)
  const points = { orders: sums.blocks.map(({ norms }) => descending(norms)), ...widths }
  const on = { fitted, tableWindows, points: { ...points } }
  const measure = async () => finite(await measureTable(view, tableWindows, sums, points, run))
  const table = infinite(await run.step({ kind: tableStep, label: 'fitted table', on }, measure))
  const { shape, predicted } = await chooseShape(input, table, points, limits)
  const plan = planOf(view.spec, points, shape)
  const scores = sums.blocks.map(({ norms }) => [...norms])
  run.emit({ type: 'neuron scores', scores, cuts: cutsOf(scores, points, shape) })
  run.emit({ type: 'width', kept: shape.widths, of: limits.width })
  return {
    plan,
    decisions: [],
    notes: budget.cost ? [] : [roundedNote(limits.unit, reachedSparsity(view.spec, plan), budget.sparsity)],
    fit: fitOf(table, shape),
    ...(predicted === undefined ? {} : { predicted }),
  }
}

interface Chosen {
  readonly shape: FittedShape
  /** The cost that is predicted for the shape, if the budget is a cost. */
  readonly predicted?: number
}

/** Chooses widths and attention within the budget of cost if there is one, otherwise within the budget of neurons. */
async function chooseShape(
  { view: { spec }, budget: { cost } }: Input,
  table: DivergenceTable,
  points: WidthPoints,
  limits: ProgrammeLimits,
): Promise<Chosen> {
  const chosen = cost ? await withinCost(cost) : withinNeurons()
  if (!chosen)
    throw new EspalierError('infeasible', 'No widths reach this amount. Remove less, or lower the smallest width (option least).')
  return chosen

  function withinNeurons(): Chosen | undefined {
    const shape = fitShape(table, inNeurons(limits, spec.blocks.length))
    return shape && { shape }
  }

  async function withinCost(limit: CostLimit): Promise<Chosen | undefined> {
    const planned = (shape: FittedShape) => planOf(spec, points, shape)
    const hasAttention = spec.blocks.map(({ attention }) => attention)
    const costs = await shapeCosts(limits, points.base, hasAttention, (shape) => limit.of(planned(shape)))
    return fitWithin(table, costs, limit, planned)
  }
}

/** Returns how many of the available calibration windows measure the table. */
const measuredWindows = (available: number, { tableWindows }: Pick<Options, 'tableWindows'>): number =>
  Math.max(1, Math.min(tableWindows, Math.floor(available / 4)))

/** Divides the calibration windows. The last ones measure the table. */
function splitCalibration({ calibration: all, options: { windows, tableWindows } }: Input): {
  fitted: Windows
  table: Windows
} {
  const calibration = all.slice(0, windows + tableWindows)
  const most = measuredWindows(calibration.length, { tableWindows })
  if (calibration.length < 4)
    throw new EspalierError(
      'infeasible',
      `Fitted widths need at least 4 windows of calibration text, but only ${calibration.length} are available. Use a longer text.`,
    )
  return { fitted: calibration.slice(0, -most), table: calibration.slice(-most) }
}

function cutsOf(scores: readonly (readonly number[])[], { orders }: WidthPoints, { widths }: FittedShape): number[] {
  return scores.map((block, index) => at(block, at(at(orders, index), at(widths, index) - 1)))
}

function fitOf({ base, widths, mlp, attention }: DivergenceTable, shape: FittedShape): Fit {
  const blocks = mlp.map((divergences, block) => ({
    block,
    divergences: [...divergences],
    attention: Number.isFinite(attention[block]) ? at(attention, block) : null,
    width: at(shape.widths, block),
    attentionRemoved: shape.removed.includes(block),
  }))
  return { base, widths: [...widths], blocks }
}

/** JSON has no infinity, so missing attention is written as -1. */
const finite = (table: DivergenceTable): DivergenceTable => ({
  ...table,
  attention: table.attention.map((value) => (Number.isFinite(value) ? value : -1)),
})
const infinite = (table: DivergenceTable): DivergenceTable => ({
  ...table,
  attention: table.attention.map((value) => (value < 0 ? Number.POSITIVE_INFINITY : value)),
})
