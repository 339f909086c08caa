import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { constantsName } from '#engine/model/views/plan-tensors.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodInput, MethodPhase } from '../method.ts'
import { stackPasses } from '../search/passes.ts'
import { gateCorrections } from './gate-correction.ts'
import type { RemovedExperts } from './lowest-ranked-experts.ts'
import { type ExpertOutputs, type ExpertStatistics, expertStatistics, meansName } from './statistics.ts'

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
