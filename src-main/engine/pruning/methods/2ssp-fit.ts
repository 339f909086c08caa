import { z } from 'zod'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Fit, TriedPrice } from '#contract/pruning/fit.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { stackParameters } from '#engine/architectures/parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { Budget } from '../budget.ts'
import { fitWithin, shapeCosts } from '../fit/costs.ts'
import { measureTable, tableMeasuring } from '../fit/divergences.ts'
import { fittedWeights, tableFitting, type WidthPoints } from '../fit/fitted-weights.ts'
import { extremePlans, limitsOf, mostRemoved, neuronParameters, requireUniform, tableWidths } from '../fit/limits.ts'
import { type Chosen, choosePrice, planOf, priceChoosing, priceFactors } from '../fit/prices.ts'
import { type DivergenceTable, type FittedShape, fitShape, inNeurons, type ProgrammeLimits } from '../fit/programme.ts'
import { defineMethod, type MethodInput, type MethodPhase, type MethodResult } from '../method.ts'
import { count } from '../options.ts'
import { densePlan, reachedSparsity } from '../plan.ts'
import { equationOperations } from '../repair/work.ts'
import { addPasses, stackPasses, timesPasses, watched } from '../search/passes.ts'
import { mlpScores, scoringPhase } from '../two-stage/mlp-scores.ts'

/**
 * 2SSP, fitted: its two units, MLP neurons by the norm of their activations (arXiv 2501.17771, Eq. 2) and whole attention submodules, but
 * widths that differ by block, and attention chosen together with them.
 *
 * The paper's are the units and the score of a neuron. Ours is how many of each: a table of what each block's width and attention cost in
 * divergence from the dense model, measured around the model whose MLPs are all as narrow as 2SSP makes them at half and repaired in closed
 * form; an exact programme over the table under the budget; and a price on attention, chosen by the loss on windows that nothing else saw.
 * The table does not depend on the sparsity. Meant to be repaired afterwards.
 */
const options = z.object({
  windows: z.number().int().min(8).default(32).meta({
    title: 'Windows',
    unit: 'windows',
    help: 'Calibration windows that score neurons and that the table is repaired on.',
  }),
  tableWindows: count(3, {
    title: 'Table windows',
    unit: 'windows',
    help: 'More windows, on which divergences are measured; equally many choose the price of attention.',
  }),
  unit: count(32, { title: 'Width unit', unit: 'neurons', help: 'Widths are multiples of it; quantised formats need 32.' }),
  least: z.number().int().positive().optional().meta({
    title: 'Smallest width',
    unit: 'neurons',
    help: 'The fewest neurons that an MLP keeps. Default: three sixteenths of the width.',
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
  summary: 'Gives each block the width that fits it, and removes the attention submodules that are worth least, jointly.',
  unit: 'neurons and attention',
  options,
  repair: 'in-order',
  windows: ({ windows, tableWindows }) => windows + 2 * tableWindows,
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
  likely: (spec, { sparsity }, chosen) => (sparsity === 0 ? [densePlan(spec)] : extremePlans(spec, limitsOf(spec, sparsity, chosen))),
  plan: (input) => planFitted(input),
})

/** The work common to all sparsities, then the prices: a one-pass repair each, on half the windows. */
function fittedWork(spec: DecoderSpec, { sparsity }: Budget, chosen: Options, available: number): MethodPhase[] {
  if (sparsity === 0) return []
  const limits = limitsOf(spec, sparsity, chosen)
  const { width } = limits
  const { base, widths } = tableWidths(spec, limits)
  const blocks = spec.blocks.length
  const all = Math.min(available, chosen.windows + 2 * chosen.tableWindows)
  const measured = measuredWindows(all, chosen)
  const fitted = all - 2 * measured
  const narrow = base / width
  const fitting = (tokens: number) =>
    blocks *
    (widths.reduce((sum, own) => sum + equationOperations(0, own, spec.hidden), 0) +
      equationOperations(fitted * tokens, width, spec.hidden) +
      equationOperations(fitted * tokens, base, spec.hidden))
  const tries = widths.length * measured
  const behind = (tries * blocks * (blocks + 1)) / 2
  const shared = `fitted table, ${fitted} and ${measured} windows`
  const judged = timesPasses({ attention: blocks, mlp: blocks * (1 - sparsity), head: 1 }, measured)
  return [
    scoringPhase(spec, fitted),
    { phase: tableFitting, passes: timesPasses({ attention: 1, mlp: 1, head: 0 }, watched * blocks * fitted), double: fitting, shared },
    {
      phase: tableMeasuring,
      passes: { attention: behind, mlp: behind * narrow, head: tries * blocks + 3 * measured },
      shared: `${shared}, measured`,
    },
    {
      phase: priceChoosing,
      passes: addPasses(stackPasses(blocks, (watched * fitted) / 2), timesPasses(judged, priceFactors.length)),
      double: (tokens) =>
        blocks *
        (2 * equationOperations((fitted * tokens) / 2, width, spec.hidden) +
          priceFactors.length * equationOperations(0, (1 - sparsity) * width, spec.hidden)),
    },
  ]
}

const tableStep: StepKind = { version: 1, reach: 'shared' }

async function planFitted(input: Input): Promise<MethodResult> {
  const { view, budget, options: chosen, run } = input
  if (budget.sparsity === 0) return { plan: densePlan(view.spec), decisions: [], notes: [] }
  requireUniform(view.spec)
  const limits = limitsOf(view.spec, budget.sparsity, chosen)
  const { fitted, table: tableWindows, price: priceWindows } = splitCalibration(input)
  const { neurons } = await mlpScores(input, { norm: 2, windows: fitted.length, cut: 'neurons' })
  if (!neurons) throw new Error('Scores of neurons were asked for, and others came.')
  const orders = neurons.map((block) => [...block.keys()].sort((a, b) => at(block, b) - at(block, a) || a - b))
  const points = { orders, ...tableWidths(view.spec, limits) }
  const on = { fitted, tableWindows, points: { ...points } }
  const table = await run.step({ kind: tableStep, label: 'fitted table', on }, async () => {
    const weights = await fittedWeights(view, fitted, points, run)
    return finite(await measureTable(view, tableWindows, points, weights, run))
  })
  const choose = await chooserOf(input, infinite(table), points, limits)
  const { shape, prices, predicted } = await choosePrice(input, choose, points, {
    fitted: fitted.slice(0, Math.max(2, fitted.length / 2)),
    judging: priceWindows,
  })
  const plan = planOf(view.spec, points, shape)
  run.emit({ type: 'neuron scores', scores: neurons, cuts: cutsOf(neurons, points, shape) })
  run.emit({ type: 'width', kept: shape.widths, of: limits.width })
  return {
    plan,
    decisions: [],
    notes: budget.cost ? [] : notesOn(view.spec, plan, budget.sparsity),
    fit: fitOf(infinite(table), shape, prices),
    ...(predicted === undefined ? {} : { predicted }),
  }
}

/** Chooses a shape for a price of attention: by neurons, or by cost if there is a budget. */
async function chooserOf(
  { view: { spec }, budget: { cost } }: Input,
  table: DivergenceTable,
  points: WidthPoints,
  limits: ProgrammeLimits,
): Promise<(factor: number) => Promise<Chosen | undefined>> {
  if (!cost) {
    const programme = inNeurons(limits, spec.blocks.length)
    return async (factor) => {
      const shape = fitShape(table, programme, factor)
      return shape && { shape }
    }
  }
  const planned = (shape: FittedShape) => planOf(spec, points, shape)
  const attentions = spec.blocks.map(({ attention }) => attention)
  const costs = await shapeCosts(limits, points.base, attentions, (shape) => cost.of(planned(shape)))
  return (factor) => fitWithin(table, costs, factor, cost, planned)
}

/** How many of some calibration windows measure the table, and as many the price of attention. */
const measuredWindows = (available: number, { tableWindows }: Pick<Options, 'tableWindows'>): number =>
  Math.max(1, Math.min(tableWindows, Math.floor(available / 4)))

/** The last calibration windows are for measuring: half of them for the table, half for the price of attention. */
function splitCalibration({ calibration: all, options: { windows, tableWindows } }: Input): {
  fitted: Windows
  table: Windows
  price: Windows
} {
  const calibration = all.slice(0, windows + 2 * tableWindows)
  const most = measuredWindows(calibration.length, { tableWindows })
  if (calibration.length < 4)
    throw new EspalierError(
      'infeasible',
      `Fitted widths need 4 windows of calibration text, there are ${calibration.length}. Give a longer text.`,
    )
  return {
    fitted: calibration.slice(0, -2 * most),
    table: calibration.slice(-2 * most, -most),
    price: calibration.slice(-most),
  }
}

function cutsOf(scores: readonly (readonly number[])[], { orders }: WidthPoints, { widths }: FittedShape): number[] {
  return scores.map((block, index) => at(block, at(at(orders, index), at(widths, index) - 1)))
}

function fitOf({ base, widths, mlp, attention }: DivergenceTable, shape: FittedShape, prices: TriedPrice[]): Fit {
  const blocks = mlp.map((divergences, block) => ({
    block,
    divergences: [...divergences],
    attention: Number.isFinite(attention[block]) ? at(attention, block) : null,
    width: at(shape.widths, block),
    attentionRemoved: shape.removed.includes(block),
  }))
  return { base, widths: [...widths], blocks, prices }
}

function notesOn(spec: DecoderSpec, plan: Plan, sparsity: number): string[] {
  const reached = reachedSparsity(spec, plan)
  return [
    `With widths in multiples of the unit, the plan removes ${(100 * reached).toFixed(2)} % instead of ${(100 * sparsity).toFixed(2)} %.`,
  ]
}

/** JSON has no infinity: missing attention is written as -1. */
const finite = (table: DivergenceTable): DivergenceTable => ({
  ...table,
  attention: table.attention.map((value) => (Number.isFinite(value) ? value : -1)),
})
const infinite = (table: DivergenceTable): DivergenceTable => ({
  ...table,
  attention: table.attention.map((value) => (value < 0 ? Number.POSITIVE_INFINITY : value)),
})
