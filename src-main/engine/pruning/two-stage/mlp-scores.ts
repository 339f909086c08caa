import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { MethodInput, MethodPhase } from '../method.ts'
import { stackPasses } from '../search/passes.ts'
import { largest } from '../selection.ts'
import { expertNorms } from './expert-norms.ts'
import { columnNorms, type NormRequest } from './neuron-norms.ts'

/**
 * Scores of what an MLP may lose, by block: its neurons [L][I], the neurons of each expert [L][E][I], or the hidden channels that it reads
 * and writes [L][D].
 */
export type MlpScores =
  | { readonly neurons: number[][]; readonly experts?: never; readonly inputs?: never }
  | { readonly experts: number[][][]; readonly neurons?: never; readonly inputs?: never }
  | { readonly neurons?: never; readonly experts?: never; readonly inputs: number[][]; readonly outputs: number[][] }

const scoring = 'Stage 1: scoring neurons'

/** Returns the work of the pass that scores neurons. */
export function scoringPhase(spec: DecoderSpec, windows: number, expertsGone?: number): MethodPhase {
  const without = expertsGone === undefined ? '' : ` without ${expertsGone} of the experts`
  const phase = { phase: scoring, passes: stackPasses(spec.blocks.length, windows), shared: `${scoring}, ${windows} windows${without}` }
  return spec.router ? { ...phase, choosing: 'exactly' } : phase
}

interface MlpScoreOptions {
  readonly norm: 1 | 2
  readonly windows: number
  readonly cut: 'neurons' | 'channels'
}

const normStep: StepKind = { version: 1, reach: 'shared' }

/** Returns mean norms for the input's view. One pass gives both norms of the neurons and serves all sparsities. */
export async function mlpScores<Options>(input: MethodInput<Options>, { norm, windows, cut }: MlpScoreOptions): Promise<MlpScores> {
  const key = norm === 1 ? 'l1' : 'l2'
  const count = Math.min(windows, input.calibration.length)
  if (input.view.spec.router) return { experts: (await expertNormsOf(input, count))[key] }
  if (cut === 'neurons') {
    const requests = { l1: { site: 'neurons', norm: 'l1' }, l2: { site: 'neurons', norm: 'l2' } } as const
    const asked = { kind: normStep, label: `neuron norms, ${count} windows`, on: { windows: input.calibration.slice(0, count), cut } }
    const norms = await input.run.step(asked, () => normsOf(input, count, requests))
    return { neurons: norms[key] }
  }
  const requests = { inputs: { site: 'input', norm: key }, outputs: { site: 'output', norm: key } } as const
  const on = { windows: input.calibration.slice(0, count), cut, norm }
  return input.run.step({ kind: normStep, label: `channel norms ${key}, ${count} windows`, on }, () => normsOf(input, count, requests))
}

async function normsOf<Options, Key extends string>(
  { view, calibration, run }: MethodInput<Options>,
  count: number,
  requests: Record<Key, NormRequest>,
) {
  const norms = await columnNorms(view, calibration.slice(0, count), Object.values(requests), {
    progress: (done, total) => run.progress(scoring, done, total, 'submodules'),
    signal: run.signal,
  })
  const entries = Object.entries<NormRequest>(requests).map(([name, request]) => [
    name,
    (norms.get(request) ?? []).map((block) => [...block]),
  ])
  return Object.fromEntries(entries) as Record<Key, number[][]>
}

const expertNormStep: StepKind = { version: 1, reach: 'shared' }

function expertNormsOf<Options>({ view, calibration, run }: MethodInput<Options>, count: number) {
  const windows = calibration.slice(0, count)
  const on = { windows, plan: view.plan }
  return run.step({ kind: expertNormStep, label: `neuron norms of experts, ${count} windows`, on }, () =>
    expertNorms(view, windows, {
      progress: (done, total) => run.progress(scoring, done, total, 'submodules'),
      signal: run.signal,
    }),
  )
}

interface KeptColumns {
  /** The indices that stay, by block. */
  readonly kept: number[][]
  /** The smallest score that stays, by block. */
  readonly cuts: number[]
  /** A sentence for each block whose cut is a tie within float32. */
  readonly notes: string[]
}

/** Picks the `count` columns of each block with the largest scores. `what` names a column in the notes. */
export function keepLargest(scores: readonly number[][], count: number, what: string): KeptColumns {
  const selections = scores.map((block) => largest(block, count))
  return {
    kept: selections.map(({ indices }) => indices),
    cuts: selections.map(({ cut }) => cut),
    notes: selections.flatMap(({ margin }, block) =>
      margin < 1e-6 && count < at(scores, block).length
        ? [
            `Block ${block}: the scores of the last ${what} kept and the first removed differ by only ${margin.toExponential(1)} of their size, which is a tie in float32.`,
          ]
        : [],
    ),
  }
}
