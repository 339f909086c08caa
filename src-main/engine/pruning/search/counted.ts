import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { isAttention } from '#engine/model/weights/weights.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { MethodPhase, MethodRun } from '../method.ts'
import { inOrder } from './certify.ts'
import { addPasses, commonParts, type PassCount, sharedPasses, stackPasses, timesPasses } from './passes.ts'
import type { Variant } from './trunk.ts'
import type { Ranking } from './variant-ranking.ts'

/** What a search needs besides its options. */
export interface SearchMeans {
  readonly run: Omit<MethodRun, 'tensorStep'>
  readonly windows: Windows
  rank(windows: Windows): Ranking
}

/** Tokens of a window that is only counted. This many are enough for searches that use a fraction of a window. */
const countedTokens = 64

/**
 * Runs a search with invented scores and counts the passes that real scores would take. Nothing is known of the model, so each part gets a
 * random weight, and the score of a variant is the sum of the weights that it lacks.
 */
export async function countSearch(
  phase: string,
  spec: DecoderSpec,
  windows: number,
  search: (means: SearchMeans) => Promise<unknown>,
): Promise<Pick<MethodPhase, 'phase' | 'passes' | 'choosing'>> {
  const counter = new PassCounter(spec)
  await search({
    windows: Array.from({ length: windows }, (_, index) => new Int32Array(countedTokens).fill(index)),
    rank: (batch) => counter.ranking(batch),
    run: {
      seed: 0,
      signal: new AbortController().signal,
      step: async (_, compute) => compute(),
      progress: () => undefined,
      emit: () => undefined,
      count: () => undefined,
    },
  })
  return { phase, passes: counter.passes, choosing: counter.choosing }
}

class PassCounter {
  passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  readonly #spec: DecoderSpec
  readonly #weights: readonly number[]
  /** Variants scored on each window, by its id. */
  readonly #known = new Map<number, Set<string>>()
  /** How many scores rank, and how many of them are scored again for a choice. */
  readonly #scored = { ranked: 0, again: 0 }

  constructor(spec: DecoderSpec) {
    const random = new PythonRandom(0)
    this.#spec = spec
    this.#weights = Array.from({ length: 2 * spec.blocks.length }, () => random.random())
  }

  get choosing(): NonNullable<MethodPhase['choosing']> {
    const { ranked, again } = this.#scored
    return ranked === 0 ? 'exactly' : { again: again / ranked }
  }

  /**
   * Returns a ranking that counts. Calls with `lacking` use a trunk, as a greedy search does. Calls without it remember scores by window.
   */
  ranking(windows: Windows): Ranking {
    const size = windows.reduce((sum, { length }) => sum + length, 0) / countedTokens
    const trunk = new CountedTrunk()
    const scoreExactly = async (variants: readonly Variant[], lacking?: Variant) => {
      this.passes = addPasses(
        this.passes,
        ...(lacking ? [timesPasses(trunk.passes(variants, lacking), size)] : windows.map((window) => this.#recalling(variants, window))),
      )
      const lost = (variant: Variant) =>
        this.#weights.reduce((sum, weight, part) => sum + weight * (at(variant, part) - (lacking?.[part] ?? 0)), 0)
      return Float64Array.from(variants, lost)
    }
    return {
      passes: { attention: 0, mlp: 0, head: 0 },
      scoreExactly,
      score: async (variants, survivors, { lacking } = {}) => {
        const scores = await scoreExactly(variants, lacking)
        this.#scored.ranked += variants.length * size
        // Counts the survivors and the runner-up, on one window if windows are rescored one by one.
        this.#scored.again += Math.min(variants.length, survivors + 1) * (lacking ? size : Math.min(1, size))
        return { scores, survivors: inOrder(scores).slice(0, survivors) }
      },
      dispose: () => undefined,
    }
  }

  /**
   * Counts the passes for variants not yet scored on a window. A new window also needs the dense model's answers: one pass, and the head
   * three times.
   */
  #recalling(variants: readonly Variant[], window: Int32Array): PassCount {
    const id = window[0] as number
    const dense = this.#known.has(id) ? [] : [stackPasses(this.#spec.blocks.length, 1, 3)]
    const known = this.#known.get(id) ?? new Set()
    this.#known.set(id, known)
    const fresh = variants.filter((variant) => !known.has(variant.join('')))
    for (const variant of fresh) known.add(variant.join(''))
    return timesPasses(addPasses(...dense, sharedPasses(fresh)), window.length / countedTokens)
  }
}

/** Counts the passes along the trunk of a greedy search. Streams of earlier calls are valid up to the last accepted removal. */
class CountedTrunk {
  #removed: Variant | undefined
  #kept: readonly number[] = [0]

  passes(variants: readonly Variant[], lacking: Variant): PassCount {
    const held = this.#removed ? commonParts(this.#removed, lacking) : 0
    const kept = this.#kept.filter((position) => position <= held)
    const starts = variants.map((variant) => commonParts(variant, lacking))
    const paths = starts.map((start) => ({ start, from: Math.max(0, ...kept.filter((position) => position <= start)) }))
    const passes = sharedPasses(variants, lacking)
    for (const [part, removed] of lacking.entries())
      if (removed === 0 && paths.some(({ start, from }) => from <= part && part < start)) passes[isAttention(part) ? 'attention' : 'mlp']++
    this.#removed = lacking
    this.#kept = [...new Set([...kept, ...starts])]
    return passes
  }
}
