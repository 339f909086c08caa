import { div, gather, mul, sqrt, square, sum, type Tensor2D, tensor1d } from '@tensorflow/tfjs-core'
import { z } from 'zod'
import { at, outside } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows, type WindowGroup } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf } from '#engine/model/weights/weights.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { count, type MethodInput, type MethodPhase, stackPasses } from '../method.ts'

/** How similar two states of the stream are, averaged over tokens and windows. `angle` is a share of half a turn. */
export interface Similarity {
  readonly cosine: number
  readonly angle: number
}

/**
 * Entry [distance][state] compares state `state` with state `state + distance`. State 0 is the embedding's output, state b + 1 the output
 * of block b. Distances that were not requested are empty.
 */
type Similarities = readonly (readonly Similarity[])[]

/** Options of methods that compare blocks. The defaults are those of the 2SSP reference, and the alternatives those of the papers. */
export const similarityOptions = z.object({
  windows: count(256, { title: 'Windows', unit: 'windows', help: 'Calibration windows used to compare blocks.' }),
  tokens: z
    .enum(['last', 'all'])
    .default('last')
    .meta({ title: 'Tokens', help: 'Compares states at the last token of each window, or at all tokens, as in the paper.' }),
  similarity: z
    .enum(['cosine', 'angular'])
    .default('cosine')
    .meta({ title: 'Similarity', help: 'Compares by the mean cosine or by the mean angle between input and output.' }),
})

type SimilarityOptions = z.infer<typeof similarityOptions>

const comparing = 'Comparing blocks'

/** Returns the work of the pass that compares blocks. It does not run the head. */
export function comparingPhase({ blocks }: DecoderSpec, { windows: wanted, tokens }: SimilarityOptions, available: number): MethodPhase {
  const windows = Math.min(wanted, available)
  return {
    phase: comparing,
    passes: stackPasses(blocks.length, windows),
    ...(tokens === 'last' ? { shared: `${comparing}, ${windows} windows` } : {}),
  }
}

const similarityStep: StepKind = { version: 1, reach: 'shared' }

/** Returns the similarities that a method needs. All runs on the same windows share the pass that finds them. */
export function similaritiesFor<Options>(
  { view, calibration, run }: MethodInput<Options>,
  distance: number,
  { windows: wanted, tokens }: Pick<SimilarityOptions, 'windows' | 'tokens'>,
): Promise<Similarities> {
  const windows = calibration.slice(0, wanted)
  const report = {
    progress: (done: number, total: number) => run.progress(comparing, done, total, 'submodules'),
    signal: run.signal,
  }
  const asked = { kind: similarityStep, on: { windows, tokens } }
  if (tokens === 'last')
    return run.step({ ...asked, label: 'block similarities at the last token' }, () => lastTokenSimilarities(view, windows, report))
  return run.step({ ...asked, label: `block similarities at all tokens, distance ${distance}`, on: { windows, tokens, distance } }, () =>
    allTokenSimilarities(view, windows, distance, report),
  )
}

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Compares the stream at the last token of each window between every two blocks. One pass without the head serves ShortGPT and the
 * window-based method for any number of removed blocks. Cosines are computed in float64.
 */
export async function lastTokenSimilarities(view: ModelView, windows: Windows, report: Report): Promise<Similarities> {
  const size = view.spec.hidden
  const states: Float32Array[] = Array.from({ length: view.spec.blocks.length + 1 }, () => new Float32Array(windows.length * size)) // [L + 1, S, D]
  const seen = new Set<number>()
  await runWindows(view, windows, {
    ...report,
    afterPart(group, part, x) {
      const state = part < 0 ? 0 : blockOf(part) + 1
      seen.add(state)
      const rows = lastRows(group, x)
      group.indices.forEach((window, i) => {
        states[state]?.set(rows.subarray(i * size, (i + 1) * size), window * size)
      })
    },
  })
  // A block that an earlier pruning removed entirely passes its input on.
  for (let state = 1; state < states.length; state++) if (!seen.has(state)) states[state] = states[state - 1] as Float32Array
  const norms = states.map((state) => windows.map((_, window) => Math.sqrt(product(state, state, window * size, size))))
  return states.map((_, distance) =>
    states.slice(distance).map((__, first) => {
      if (distance === 0) return { cosine: 1, angle: 0 }
      const [a, b] = [states[first], states[first + distance]] as [Float32Array, Float32Array]
      return meanSimilarity(
        windows.map(
          (___, window) => product(a, b, window * size, size) / (at(at(norms, first), window) * at(at(norms, first + distance), window)),
        ),
      )
    }),
  )
}

function lastRows(group: WindowGroup, x: Tensor2D): Float32Array {
  const last = Int32Array.from({ length: group.batch }, (_, i) => (i + 1) * group.tokens - 1)
  return valuesOf(() => gather(x, tensor1d(last, 'int32')))
}

function product(a: Float32Array, b: Float32Array, from: number, size: number): number {
  let total = 0
  for (let i = from; i < from + size; i++) total += (a[i] ?? outside(a, i)) * (b[i] ?? outside(b, i))
  return total
}

function meanSimilarity(cosines: ArrayLike<number> & Iterable<number>): Similarity {
  let cosine = 0
  let angle = 0
  for (const value of cosines) {
    cosine += value / cosines.length
    angle += Math.acos(Math.min(1, Math.max(-1, value))) / Math.PI / cosines.length
  }
  return { cosine, angle }
}

/** Compares the stream at all tokens, for one distance. `distance + 1` states of a group of windows are in memory at once. */
export async function allTokenSimilarities(view: ModelView, windows: Windows, distance: number, report: Report): Promise<Similarities> {
  const count = view.spec.blocks.length + 1
  const sums = Array.from({ length: count - distance }, () => ({ cosine: 0, angle: 0 }))
  const histories = new Map<WindowGroup, StateHistory>()
  const historyOf = (group: WindowGroup): StateHistory => {
    const found =
      histories.get(group) ??
      new StateHistory(distance, (first, before, x) => {
        const total = sums[first]
        if (!total) return
        const { cosine, angle } = meanSimilarity(rowCosines(before, x))
        total.cosine += (cosine * group.batch) / windows.length
        total.angle += (angle * group.batch) / windows.length
      })
    histories.set(group, found)
    return found
  }
  try {
    await runWindows(view, windows, {
      ...report,
      afterPart: (group, part, x) => historyOf(group).see(part < 0 ? 0 : blockOf(part) + 1, x),
      afterStack(group) {
        historyOf(group).finish(count)
        historyOf(group).dispose()
        histories.delete(group)
      },
    })
  } finally {
    for (const history of histories.values()) history.dispose()
  }
  return Array.from({ length: count }, (_, at) => (at === distance ? sums : []))
}

/**
 * Holds the last states of one stream. A state is complete when a part of a later block follows. It is then compared with the state
 * `distance` before it.
 */
class StateHistory {
  readonly #distance: number
  readonly #compare: (first: number, before: Tensor2D, x: Tensor2D) => void
  readonly #states = new Map<number, Tensor2D>()
  #last = 0

  constructor(distance: number, compare: (first: number, before: Tensor2D, x: Tensor2D) => void) {
    this.#distance = distance
    this.#compare = compare
  }

  see(state: number, x: Tensor2D): void {
    if (state > this.#last) this.finish(state)
    this.#states.get(state)?.dispose()
    this.#states.set(state, x.clone())
    this.#last = state
  }

  /** Completes all states below `state`. A block that an earlier pruning removed entirely passes its input on. */
  finish(state: number): void {
    for (let at = this.#last; at < state; at++) {
      const x = this.#states.get(at) ?? (this.#states.get(at - 1) as Tensor2D).clone()
      this.#states.set(at, x)
      const before = this.#states.get(at - this.#distance)
      if (before) this.#compare(at - this.#distance, before, x)
      const old = at - Math.max(1, this.#distance)
      this.#states.get(old)?.dispose()
      this.#states.delete(old)
    }
    if (state > this.#last) this.#last = state
  }

  dispose(): void {
    for (const state of this.#states.values()) state.dispose()
    this.#states.clear()
  }
}

function rowCosines(a: Tensor2D, b: Tensor2D): Float32Array {
  return valuesOf(() => {
    const lengths = mul(sqrt(sum(square(a), 1)), sqrt(sum(square(b), 1)))
    return div(sum(mul(a, b), 1), lengths)
  })
}
