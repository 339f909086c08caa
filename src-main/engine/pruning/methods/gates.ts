import { z } from 'zod'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { NeuronScores } from '#contract/pruning/gates.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { plural } from '#contract/words.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { Budget, CostLimit } from '../budget.ts'
import {
  closeGates,
  closeInOrder,
  type GateList,
  type GateOrder,
  leastCost,
  listGates,
  mostClosed,
  orderOf,
  planOfGates,
  roundWidths,
} from '../gates/gate-list.ts'
import { gateBytes, gateRoom } from '../gates/room.ts'
import { GateTraining, pricing, training } from '../gates/train-gates.ts'
import { count, defineMethod, type MethodInput, type MethodPhase, type MethodResult, widthUnit } from '../method.ts'
import { densePlan, reachedSparsity, roundedNote } from '../plan.ts'
import { readingDense } from '../recovery/final-states.ts'

/**
 * Gates: removes what the loss of the whole model misses least. Every MLP neuron and every attention submodule has a gate, a factor of 1
 * or 0 on its output; in a mixture, every expert has one instead of its neurons. Gates are first priced by the squared gradient of the
 * text's cross-entropy (the empirical Fisher information, as in arXiv 1906.10771) per parameter. Then each training step closes the gates
 * with the lowest scores, so that the budget is met exactly, and moves all scores by the gradient of the divergence from the dense model.
 * Closed gates have gradients too and reopen if the model misses them. No weight changes. The method builds on GRASPrune and GISP (arXiv
 * 2510.18030), which train or re-rank under an exact budget in many small steps.
 *
 * Defaults were chosen on the sample model at 50 % (perplexity of its test text, means of three draws; 2SSP: 73.3). Prices alone have 39.2,
 * 30, 60 and 120 steps 20.6, 19.2 and 18.5. Two windows per step, three times as many windows for prices, a third or three times the
 * temperature, and half or twice the rate were no better. Left out: the scores of the last step alone, which decide by chance which
 * attention is removed, and a training with a tiny epsilon, which is worse after 120 steps than after 60 (docs/results.md).
 */
const options = z.object({
  windows: count(8, { title: 'Price windows', unit: 'windows', help: 'Calibration windows used to price gates before they are trained.' }),
  steps: z.number().int().nonnegative().max(10_000).default(120).meta({
    title: 'Steps',
    unit: 'steps',
    help: 'Training steps. More steps choose better and take longer; 0 ranks gates by their prices alone.',
  }),
  windowsPerStep: count(1, { title: 'Windows per step', unit: 'windows', help: 'Calibration windows of each training step.' }),
  rate: z
    .number()
    .positive()
    .max(10)
    .default(0.15)
    .meta({ title: 'Rate', help: 'How far scores move in a step, in logarithms of a price.' }),
  temperature: z.number().positive().max(100).default(1).meta({
    title: 'Temperature',
    help: 'How far from the threshold gates still move. A low temperature moves only gates near it.',
  }),
  unit: widthUnit(1),
})

type Options = z.infer<typeof options>
type Input = MethodInput<Options>

export const gates = defineMethod({
  id: 'gates',
  order: 11,
  title: 'Gates',
  paper: '2510.18030',
  own: true,
  summary: 'Trains a gate on every neuron, attention submodule and expert under an exact budget, and removes what stays closed.',
  unit: 'neurons and attention',
  options,
  windows: (chosen) => Math.max(chosen.windows, chosen.steps * chosen.windowsPerStep),
  range: (spec) => ({ least: 0, most: gateProblem(spec) ? 0 : Math.floor(100 * mostClosed(listGates(spec))) / 100 }),
  outline(spec, { sparsity }) {
    requireGates(spec, sparsity)
    const nothing = sparsity === 0 ? 0 : null
    return { attentionRemoved: nothing, blocksRemoved: null, neuronsRemovedPerBlock: nothing, reached: nothing }
  },
  work: gatesWork,
  bytes: (spec, { windowsPerStep }, tokens) => gateBytes(spec, Math.min(tokens, windowTokens), windowsPerStep),
  boundingPlans(spec, { sparsity }) {
    const { list, orders } = likelyOrders(spec)
    const parameters = sparsity * stackParameters(spec)
    // How the budget divides among gates decides up to one small gate.
    const bounds = [parameters - leastCost(list), parameters + leastCost(list)]
    const plans = orders.flatMap((order) => bounds.map((bound) => planOfGates(list, closeInOrder(list, order, bound))))
    return [...plans, ...plans.map((plan) => widened(spec, plan))]
  },
  plan: (input) => planByGates(input),
})

/** Returns why a model's gates have no gradients here, if so. */
function gateProblem(spec: DecoderSpec): EspalierError | undefined {
  if (!spec.neuronLimit && !spec.blocks.some((_, block) => spec.block(block).sinks)) return undefined
  return new EspalierError(
    'infeasible',
    `A ${spec.family} model has attention sinks, through which Espalier computes no gradients. Choose 2SSP, REAP or another method.`,
  )
}

function requireGates(spec: DecoderSpec, sparsity: number): void {
  const problem = gateProblem(spec)
  if (problem) throw problem
  const most = mostClosed(listGates(spec))
  if (sparsity > most + 1e-9)
    throw new EspalierError(
      'infeasible',
      `Gates can remove at most ${(100 * most).toFixed(1)} % of the block stack, because every MLP keeps some neurons and every router its experts; ${(100 * sparsity).toFixed(1)} % were requested. Remove less.`,
    )
}

/** Passes of a window: forward, and backward without gradients of weights. */
const bothWays = 2
/** Windows that are priced, or of a step of one window, do not share the fixed cost of a call with others. */
const alone = 1

function gatesWork(spec: DecoderSpec, { sparsity }: Budget, chosen: Options, available: number): MethodPhase[] {
  if (sparsity === 0) return []
  const blocks = spec.blocks.length
  const priced = Math.min(available, chosen.windows)
  const read = chosen.steps === 0 ? 0 : Math.min(available, chosen.steps * chosen.windowsPerStep)
  const trained = chosen.steps * Math.min(available, chosen.windowsPerStep)
  const through = (windows: number, head: number) => ({
    attention: bothWays * blocks * windows,
    mlp: bothWays * blocks * windows,
    head: head * windows,
  })
  const phases: MethodPhase[] = [
    { phase: pricing, longest: windowTokens, rowsPerCall: alone, passes: through(priced, 2), shared: `prices of gates, ${priced} windows` },
  ]
  if (chosen.steps === 0) return phases
  return [
    ...phases,
    {
      phase: readingDense,
      longest: windowTokens,
      passes: { attention: blocks * read, mlp: blocks * read, head: 0 },
      shared: `dense states, ${read} windows`,
    },
    { phase: training, longest: windowTokens, rowsPerCall: alone, passes: through(trained, 3) },
  ]
}

async function planByGates(input: Input): Promise<MethodResult> {
  const { view, budget, options: chosen, run } = input
  const { spec } = view
  if (budget.sparsity === 0) return { plan: densePlan(spec), decisions: [], notes: [] }
  requireGates(spec, budget.sparsity)
  const windows = evenWindows(input)
  const list = listGates(spec)
  const parameters = budget.sparsity * stackParameters(spec)
  const trainer = await GateTraining.open(view, list, gateRoom(view, at(windows, 0).length, chosen.windowsPerStep), run)
  try {
    const priced = windows.slice(0, chosen.windows)
    const { steps, windowsPerStep, rate, temperature } = chosen
    const trained = windows.slice(0, steps * windowsPerStep)
    const found = await trainer.train(priced, trained, { steps, windowsPerStep, rate, temperature, parameters })
    const { plan, predicted } = await fill(list, found.scores, parameters, chosen.unit, budget.cost)
    if (!spec.router) run.emit({ type: 'neuron scores', ...neuronScores(list, found.scores, plan) })
    run.emit({ type: 'width', kept: shapeOf(list, plan), of: widest(spec) })
    return {
      plan,
      decisions: [],
      notes: notesOn(input, plan, windows),
      gates: { steps: found.steps, priceWindows: priced.length, windowsPerStep },
      ...(predicted === undefined ? {} : { predicted }),
    }
  } finally {
    trainer.dispose()
  }
}

/** The most tokens of a window: what the defaults were chosen with. Longer windows take longer and show a gate the same. */
const windowTokens = 512

/** Windows pass side by side, so they are cut to the length of the shortest. */
function evenWindows({ calibration }: Input): Windows {
  const shortest = Math.min(windowTokens, ...calibration.map(({ length }) => length))
  return calibration.map((window) => (window.length === shortest ? window : window.subarray(0, shortest)))
}

/** Returns the plan for the final scores. A budget of cost is met by removing as few parameters as it allows. */
async function fill(
  list: GateList,
  scores: Float32Array,
  parameters: number,
  unit: number,
  cost: CostLimit | undefined,
): Promise<{ plan: Plan; predicted?: number }> {
  const planFor = (amount: number) => planOfGates(list, roundWidths(list, scores, closeGates(list, scores, amount), unit, amount))
  if (!cost) return { plan: planFor(parameters) }
  const most = mostClosed(list) * stackParameters(list.spec)
  let [least, enough] = [0, most]
  if ((await cost.of(planFor(enough))) > cost.most)
    throw new EspalierError(
      'infeasible',
      `Even with all gates closed that may close, the model misses ${cost.asked}. Choose a larger budget.`,
    )
  const precision = leastCost(list)
  while (enough - least > precision) {
    const middle = (least + enough) / 2
    if ((await cost.of(planFor(middle))) <= cost.most) enough = middle
    else least = middle
  }
  const plan = planFor(enough)
  return { plan, predicted: await cost.of(plan) }
}

/** Formats pad each width to a multiple of this. */
const paddedTo = 32

/** The plan with as many more neurons in each MLP as a format may add. */
function widened({ blocks }: DecoderSpec, plan: Plan): Plan {
  const widen = (kept: readonly number[], width: number) =>
    Array.from({ length: Math.min(width, kept.length + paddedTo - 1) }, (_, neuron) => neuron)
  return {
    blocks: plan.blocks.map((block, index) => {
      const { mlp } = block
      if (mlp === 'removed' || mlp.kept === 'all' || mlp.experts) return block
      return { ...block, mlp: { kept: widen(mlp.kept, at(blocks, index).width) } }
    }),
  }
}

const widest = (spec: DecoderSpec): number => Math.max(...spec.blocks.map(({ width, experts }) => experts ?? width))

/** Neurons, or experts, that each block keeps. */
function shapeOf({ spec }: GateList, plan: Plan): number[] {
  return plan.blocks.map(({ mlp }, block) => {
    if (mlp === 'removed') return 0
    const { width, experts } = at(spec.blocks, block)
    return experts === undefined ? (mlp.kept === 'all' ? width : mlp.kept.length) : (mlp.experts?.length ?? experts)
  })
}

/** The scores of each block's neurons and attention above the lowest of all, and the lowest neuron of each block that it keeps. */
function neuronScores({ spec, groups }: GateList, scores: Float32Array, plan: Plan): NeuronScores {
  const neurons = groups.filter(({ kind }) => kind === 'neurons')
  const all = neurons.map(({ first, count: own }) => scores.subarray(first, first + own))
  const lowest = scores.reduce((least, score) => Math.min(least, score), Number.POSITIVE_INFINITY)
  const above = (score: number) => Number((score - lowest).toFixed(4))
  const byBlock: number[][] = spec.blocks.map(() => [])
  for (const [index, { block }] of neurons.entries()) byBlock[block] = Array.from(at(all, index), above)
  const cuts = byBlock.map((own, block) => {
    const mlp = plan.blocks[block]?.mlp
    const kept = mlp === undefined || mlp === 'removed' || mlp.kept === 'all' ? own : mlp.kept.map((neuron) => at(own, neuron))
    return kept.length === 0 ? 0 : Math.min(...kept)
  })
  const attention: (number | null)[] = spec.blocks.map(() => null)
  for (const { kind, block, first } of groups) if (kind === 'attention') attention[block] = above(at(scores, first))
  return { scores: byBlock, cuts, attention }
}

const likely = new WeakMap<DecoderSpec, { list: GateList; orders: GateOrder[] }>()

/** A model's gates in the orders of likely plans, sorted once, because a preview of a grid asks for each of its amounts. */
function likelyOrders(spec: DecoderSpec): { list: GateList; orders: GateOrder[] } {
  const known = likely.get(spec)
  if (known) return known
  const list = listGates(spec)
  const found = { list, orders: likelyScores(list).map((scores) => orderOf(list, scores)) }
  likely.set(spec, found)
  return found
}

/**
 * Scores of plans whose files bound the size of the result: even widths with all attention or without one, because formats may store such
 * models differently, and attention first with uneven widths.
 */
function likelyScores({ spec, groups, count }: GateList): Float64Array[] {
  const scored = (score: (kind: string, block: number, share: number) => number) => {
    const scores = new Float64Array(count)
    for (const { kind, block, first, count: own } of groups) for (let i = 0; i < own; i++) scores[first + i] = score(kind, block, i / own)
    return scores
  }
  return [
    scored((kind, _, share) => (kind === 'attention' ? 2 : share)),
    scored((kind, block, share) => (kind === 'attention' ? (block === spec.blocks.length - 1 ? -1 : 2) : share)),
    scored((kind, block, share) => (kind === 'attention' ? -1 : block + share)),
    scored((kind, block, share) => (kind === 'attention' ? -1 : -block + share)),
  ]
}

function notesOn({ view: { spec }, budget, options: { steps, windowsPerStep, unit } }: Input, plan: Plan, windows: Windows): string[] {
  const notes: string[] = []
  const wanted = steps * windowsPerStep
  if (windows.length < wanted)
    notes.push(`Calibration has ${plural(windows.length, 'window')}, but ${plural(steps, 'step')} want ${wanted}. Windows were used again.`)
  const reached = reachedSparsity(spec, plan)
  if (unit > 1 && !budget.cost && reached - budget.sparsity > 0.0005) notes.push(roundedNote(unit, reached, budget.sparsity))
  return notes
}
