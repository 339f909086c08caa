import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { PythonRandom } from '#engine/random/python-random.ts'
import { densePlan, presentBlocks, variantOf } from '../plan.ts'
import type { Variant } from './trunk.ts'

/** The states of an evolutionary search. Each removes equally many attention submodules and MLPs, or whole blocks. */
export class SearchSpace {
  /** How many attention submodules, and how many MLPs, every state removes. */
  readonly count: number
  readonly #wholeBlocks: boolean
  readonly #start: Variant
  readonly #attention: readonly Part[]
  readonly #mlps: readonly Part[]

  constructor(spec: DecoderSpec, count: number, unit: 'block' | 'submodule') {
    this.count = count
    this.#wholeBlocks = unit === 'block'
    this.#start = variantOf(densePlan(spec))
    const blocks = this.#wholeBlocks ? presentBlocks(spec) : [...spec.blocks.keys()]
    const present = (part: Part) => this.#wholeBlocks || this.#start[part] === 0
    this.#attention = blocks.map(attentionOf).filter(present)
    this.#mlps = blocks.map(mlpOf).filter(present)
  }

  /** How many attention submodules or MLPs, whichever are fewer, a state can choose from. */
  get choices(): number {
    return Math.min(this.#attention.length, this.#mlps.length)
  }

  /** The number of states. */
  get states(): number {
    const attention = binomial(this.#attention.length, this.count)
    return this.#wholeBlocks ? attention : attention * binomial(this.#mlps.length, this.count)
  }

  /** Returns how many other states can be reached by 1 to `flips` exchanges. */
  neighbours(flips: number): number {
    const statesAt = (choices: number, distance: number) => binomial(this.count, distance) * binomial(choices - this.count, distance)
    let total = -1
    for (let attention = 0; attention <= flips; attention++) {
      for (let mlp = 0; mlp <= (this.#wholeBlocks ? 0 : flips - attention); mlp++)
        total += statesAt(this.#attention.length, attention) * statesAt(this.#mlps.length, mlp)
    }
    return total
  }

  /** Draws a state uniformly. MLPs are drawn even if whole blocks are removed, to use the same random numbers as the reference. */
  drawState(random: PythonRandom): Variant {
    const state = this.#start.slice()
    for (const part of random.sample(this.#attention, this.count)) state[part] = 1
    const mlps = random.sample(this.#mlps, this.count)
    if (!this.#wholeBlocks) for (const part of mlps) state[part] = 1
    return this.#settle(state)
  }

  /**
   * Returns a copy of the parent with 1 to `mostFlips` exchanges of a removed and a kept submodule. Fewer exchanges are more likely, and
   * later ones may undo earlier ones.
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
    if (this.#wholeBlocks) for (const part of this.#attention) state[part + 1] = at(state, part)
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

/** Describes a state as `attention/mlp` with one digit per block, where 1 means removed. */
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
