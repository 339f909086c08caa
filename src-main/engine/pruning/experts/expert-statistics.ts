import { at, outside } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { ExpertScore, JudgedExperts } from '#contract/pruning/experts.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { NamedTensor, NamedTensors, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows } from '#engine/model/forward.ts'
import type { ExpertActivations } from '#engine/model/parts/part.ts'
import { constantsName } from '#engine/model/views/plan-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { type MethodInput, type MethodPhase, stackPasses } from '../method.ts'
import type { Rank, RemovedExperts } from './expert-plan.ts'
import { gateCorrections } from './gate-correction.ts'

const scoring = 'Scoring experts'

/** Returns the work of the pass that scores experts. */
export function scoringPhase(spec: DecoderSpec, windows: number): MethodPhase {
  const shared = `${scoring}, ${windows} windows`
  return { phase: scoring, passes: stackPasses(spec.blocks.length, windows), choosing: 'exactly', shared }
}

type Input = MethodInput<{ readonly windows: number }>

const windowsOf = ({ calibration, options: { windows } }: Input) => calibration.slice(0, windows)

const statisticsStep: StepKind = { version: 1, reach: 'shared' }
const constantsStep: StepKind = { version: 1 }

const correcting = 'Correcting gates'

/** Returns the work of the pass that compares each mixture with what remains of it. */
export function correctionPhase(spec: DecoderSpec, windows: number): MethodPhase {
  const { attention, mlp, head } = stackPasses(spec.blocks.length, windows)
  return { phase: correcting, passes: { attention, mlp: 2 * mlp, head }, choosing: 'exactly' }
}

const correctionStep: StepKind = { version: 1 }

/** Adds to the plan the scale of its remaining experts. */
export async function correctGates(input: Input, plan: Plan): Promise<Plan> {
  const { view, run } = input
  const windows = windowsOf(input)
  const report = {
    progress: (done: number, total: number) => run.progress(correcting, done, total, 'groups of windows'),
    signal: run.signal,
  }
  const asked = { kind: correctionStep, label: 'gate correction', on: { plan, windows } }
  const scales = await run.step(asked, () => gateCorrections(view, plan, windows, report))
  const blocks = plan.blocks.map((block, index): BlockPlan => {
    const scale = scales[index]
    return scale && block.mlp !== 'removed' ? { ...block, mlp: { ...block.mlp, expertScale: scale } } : block
  })
  return { blocks }
}

/**
 * Returns the statistics of the experts in the dense model. All runs on the same windows share the pass. With `outputs`, the result
 * includes the vector that summarises each expert.
 */
export async function statisticsFor(
  input: Input,
  { outputs }: { readonly outputs: ExpertOutputs | undefined },
): Promise<ExpertStatistics & { tensors?: StoredTensors }> {
  const { view, run } = input
  const windows = windowsOf(input)
  const report = {
    progress: (done: number, total: number) => run.progress(scoring, done, total, 'submodules'),
    signal: run.signal,
  }
  const asked = { kind: statisticsStep, label: outputs ? `expert statistics and ${outputs} outputs` : 'expert statistics', on: { windows } }
  const compute = () => expertStatistics(view, windows, { outputs }, report)
  if (outputs) return run.tensorStep(asked, compute)
  return run.step(asked, async () => {
    const { tokens, blocks } = await compute()
    return { tokens, blocks }
  })
}

/** Returns the vectors that replace the removed experts, under the names that a plan uses. */
export async function constantsFor(
  input: Input,
  gone: RemovedExperts,
  { outputs, means }: { outputs: ExpertOutputs; means: StoredTensors },
): Promise<StoredTensors> {
  const on = { windows: windowsOf(input), gone: [...gone].map(([block, experts]) => [block, experts]) }
  const { tensors } = await input.run.tensorStep({ kind: constantsStep, label: `${outputs} outputs of removed experts`, on }, async () => {
    const constants = new Map<string, NamedTensor>()
    for (const [block, experts] of gone) {
      const all = await means.readFloat32(meansName(block))
      const hidden = input.view.spec.hidden
      const values = new Float32Array(experts.length * hidden)
      for (const [row, expert] of experts.entries()) values.set(all.subarray(expert * hidden, (expert + 1) * hidden), row * hidden)
      constants.set(constantsName(block), { values, shape: [experts.length, hidden] })
    }
    return { tensors: constants }
  })
  return tensors
}

/** Sums over the tokens routed to each expert of a mixture, [E] each. f is the expert's output [D], and g the factor on it. */
export interface MixtureStatistics {
  readonly block: number
  /** Tokens routed to the expert. */
  readonly count: number[]
  /** Sum of g |f|. */
  readonly norms: number[]
  /** The largest absolute entry of f over all tokens. */
  readonly peaks: number[]
}

export interface ExpertStatistics {
  /** The tokens of all windows. */
  readonly tokens: number
  readonly blocks: MixtureStatistics[]
}

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/** Which vector replaces an expert: its mean output, or the least-squares fit. */
export type ExpertOutputs = 'mean' | 'fitted'

/** Names the vectors that summarise the experts of a block, [E, D]. They are not part of any plan. */
export const meansName = (block: number): string => `blocks.${block}.means`

/**
 * Sums what each expert adds, in one pass of the model over the windows. Only the tokens routed to an expert run through it. Sums are in
 * float64, and products have the precision that decides. With `outputs`, also returns a vector for each expert: its mean output, or the v
 * that minimises the sum of |g f - g v|², which is the mean weighted by g².
 */
export async function expertStatistics(
  view: ModelView,
  windows: Windows,
  { outputs }: { readonly outputs: ExpertOutputs | undefined },
  report: Report,
): Promise<ExpertStatistics & { tensors: NamedTensors }> {
  const { spec, model } = view
  const sums = new Map<number, MixtureSums>()
  await runWindows(view, windows, {
    ...report,
    products: model.products.deciding,
    endsBeforeOutput: true,
    observe(_group, part, { experts }) {
      if (!experts) return
      const block = blockOf(part)
      const own = sums.get(block) ?? new MixtureSums(spec.blocks[block]?.experts ?? 0, outputs ? spec.hidden : 0, outputs)
      sums.set(block, own)
      for (const expert of experts) own.add(expert)
    },
  })
  const blocks = [...sums].sort(([a], [b]) => a - b)
  return {
    tokens: windows.reduce((total, { length }) => total + length, 0),
    blocks: blocks.map(([block, own]) => ({ block, ...own.statistics() })),
    tensors: new Map(outputs ? blocks.map(([block, own]) => [meansName(block), own.means()]) : []),
  }
}

class MixtureSums {
  readonly #count: Float64Array
  readonly #norms: Float64Array
  readonly #peaks: Float64Array
  readonly #outputs: Float64Array
  /** The divisors of the summed outputs. */
  readonly #weights: Float64Array
  readonly #hidden: number
  readonly #fits: boolean

  /** Outputs are summed only if `hidden` is above 0. */
  constructor(experts: number, hidden: number, outputs: ExpertOutputs | undefined) {
    this.#count = new Float64Array(experts)
    this.#norms = new Float64Array(experts)
    this.#peaks = new Float64Array(experts)
    this.#outputs = new Float64Array(experts * hidden)
    this.#weights = new Float64Array(experts)
    this.#hidden = hidden
    this.#fits = outputs === 'fitted'
  }

  add({ expert, gates, output }: ExpertActivations): void {
    const values = output.dataSync<'float32'>()
    const width = output.shape[1]
    let [norms, peak] = [0, this.#peaks[expert] ?? outside(this.#peaks, expert)]
    for (let row = 0; row < gates.length; row++) {
      const gate = gates[row] ?? outside(gates, row)
      const weight = this.#fits ? gate * gate : 1
      addAt(this.#weights, expert, weight)
      let squares = 0
      for (let i = 0; i < width; i++) {
        const value = values[row * width + i] ?? outside(values, row * width + i)
        squares += value * value
        const size = Math.abs(value)
        if (size > peak) peak = size
        if (this.#hidden > 0) addAt(this.#outputs, expert * width + i, weight * value)
      }
      norms += gate * Math.sqrt(squares)
    }
    addAt(this.#count, expert, gates.length)
    addAt(this.#norms, expert, norms)
    this.#peaks[expert] = peak
  }

  statistics(): Omit<MixtureStatistics, 'block'> {
    return { count: [...this.#count], norms: [...this.#norms], peaks: [...this.#peaks] }
  }

  /** Returns the vectors of all experts, [E, D]. They are zero for an expert that no token reached. */
  means(): { values: Float32Array; shape: number[] } {
    const hidden = this.#hidden
    const values = Float32Array.from(this.#outputs, (sum, i) => sum / (at(this.#weights, Math.floor(i / hidden)) || 1))
    return { values, shape: [this.#count.length, hidden] }
  }
}

export function addAt(sums: Float64Array, index: number, value: number): void {
  sums[index] = (sums[index] ?? outside(sums, index)) + value
}

/** Returns the score of every expert of a mixture, [E]. 0 if no token reached the expert. */
export function scoresOf({ count, norms }: MixtureStatistics, score: ExpertScore, tokens: number): number[] {
  if (score === 'count') return [...count]
  return norms.map((sum, expert) => sum / (score === 'reap' ? Math.max(1, at(count, expert)) : tokens))
}

/** Returns the scores and token counts of all experts, and which of them are super experts. */
export function judgeExperts({ tokens, blocks }: ExpertStatistics, score: ExpertScore, chosen: number, depth: number): JudgedExperts {
  const isSuper = superExperts(blocks, depth)
  return {
    score,
    tokens,
    chosen,
    blocks: blocks.map((own) => ({
      block: own.block,
      tokens: [...own.count],
      scores: scoresOf(own, score, tokens),
      superExperts: [...own.peaks.keys()].filter((expert) => isSuper(own.block, at(own.peaks, expert))),
    })),
  }
}

/** Returns the rank of each expert by its score. If super experts are kept, they rank last. */
export function rankBy({ blocks }: JudgedExperts, superExperts: 'kept' | 'scored'): (block: number, expert: number) => Rank {
  const found = new Map(blocks.map((own) => [own.block, own]))
  return (block, expert) => {
    const own = found.get(block)
    if (!own) throw new EspalierError('internal', `Block ${block} was not scored.`)
    return { score: at(own.scores, expert), last: superExperts === 'kept' && own.superExperts.includes(expert) }
  }
}

/**
 * Returns a test for super experts (arXiv 2507.23279). They lie in the first three quarters of the blocks. Their largest output is above
 * the 99.5 % quantile over all experts, and above a tenth of the maximum. Without them, models lose their attention sinks.
 */
function superExperts(blocks: readonly MixtureStatistics[], depth: number): (block: number, peak: number) => boolean {
  const peaks = blocks.flatMap(({ peaks }) => peaks).sort((a, b) => a - b)
  if (peaks.length === 0) return () => false
  const position = 0.995 * (peaks.length - 1)
  const [low, high] = [at(peaks, Math.floor(position)), at(peaks, Math.ceil(position))]
  const quantile = low + (high - low) * (position - Math.floor(position))
  return (block, peak) => block < 0.75 * depth && peak > quantile && peak > at(peaks, peaks.length - 1) / 10
}
