import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { PythonRandom } from '#engine/random/python-random.ts'
import { densePlan, presentBlocks, variantOf } from '../plan.ts'
import type { Variant } from './trunk.ts'

/** What an evolutionary search may remove: equally many attention submodules and MLPs, or both of one block together. */
export class SearchSpace {
  readonly count: number
  readonly #whole: boolean
  readonly #start: Variant
  readonly #attention: readonly Part[]
  readonly #mlps: readonly Part[]

  /** `count` of each kind are removed in every state. */
  constructor(spec: DecoderSpec, count: number, unit: 'block' | 'submodule') {
    this.count = count
    this.#whole = unit === 'block'
    this.#start = variantOf(densePlan(spec))
    const blocks = this.#whole ? presentBlocks(spec) : [...spec.blocks.keys()]
    const present = (part: Part) => this.#whole || this.#start[part] === 0
    this.#attention = blocks.map(attentionOf).filter(present)
    this.#mlps = blocks.map(mlpOf).filter(present)
  }

  /** How many there are to choose the removed ones from. */
  get choices(): number {
    return Math.min(this.#attention.length, this.#mlps.length)
  }

  /** The number of states. */
  get states(): number {
    const attention = binomial(this.#attention.length, this.count)
    return this.#whole ? attention : attention * binomial(this.#mlps.length, this.count)
  }

  /** How many other states can be reached by 1 to `flips` exchanges. */
  neighbours(flips: number): number {
    const at = (choices: number, distance: number) => binomial(this.count, distance) * binomial(choices - this.count, distance)
    let total = -1
    for (let attention = 0; attention <= flips; attention++) {
      for (let mlp = 0; mlp <= (this.#whole ? 0 : flips - attention); mlp++)
        total += at(this.#attention.length, attention) * at(this.#mlps.length, mlp)
    }
    return total
  }

  /** A uniformly drawn state. With whole blocks, MLPs are drawn too, although nothing depends on them, to keep step with the reference. */
  drawState(random: PythonRandom): Variant {
    const state = this.#start.slice()
    for (const part of random.sample(this.#attention, this.count)) state[part] = 1
    const mlps = random.sample(this.#mlps, this.count)
    if (!this.#whole) for (const part of mlps) state[part] = 1
    return this.#settle(state)
  }

  /**
   * A parent with one to `mostFlips` exchanges of a removed and a kept submodule; few are more likely. Later exchanges may undo earlier
   * ones.
   */
  mutate(parent: Variant, random: PythonRandom, mostFlips: number): Variant {
    const child = parent.slice()
    const flips = Math.min(random.integer(1, mostFlips), random.integer(1, mostFlips))
    for (let flip = 0; flip < flips; flip++) {
      const parts = random.integer(0, 1) === 0 ? this.#attention : this.#mlps
      const removed = drawUntil(parts, random, (part) => child[part] === 0)
      const restored = drawUntil(parts, random, (part) => child[part] === 1)
      child[removed] = 1
      child[restored] = 0
    }
    return this.#settle(child)
  }

  #settle(state: Variant): Variant {
    if (this.#whole) for (const part of this.#attention) state[part + 1] = at(state, part)
    return state
  }
}

function drawUntil(parts: readonly Part[], random: PythonRandom, fits: (part: Part) => boolean): Part {
  let drawn = parts[random.integer(0, parts.length - 1)] as Part
  while (!fits(drawn)) drawn = parts[random.integer(0, parts.length - 1)] as Part
  return drawn
}

function binomial(items: number, chosen: number): number {
  let result = 1
  for (let i = 1; i <= chosen; i++) result = (result * (items - chosen + i)) / i
  return chosen > items ? 0 : Math.round(result)
}

/** `attention/mlp`, one digit per block: 1 is removed. */
export function describeState(state: Variant): string {
  const digits = (of: (block: number) => Part) => Array.from({ length: state.length / 2 }, (_, block) => state[of(block)]).join('')
  return `${digits(attentionOf)}/${digits(mlpOf)}`
}

/** Draws until there are `count` different states, none of them in `taken`. The caller makes sure that enough exist. */
export function drawDistinct(count: number, taken: readonly Variant[], draw: () => Variant): Variant[] {
  const seen = new Set(taken.map(describeState))
  const states: Variant[] = []
  while (states.length < count) {
    const state = draw()
    const name = describeState(state)
    if (seen.has(name)) continue
    seen.add(name)
    states.push(state)
  }
  return states
}
