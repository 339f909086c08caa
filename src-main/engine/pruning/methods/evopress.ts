import { z } from 'zod'
import { at } from '#contract/at.ts'
import type { Selection } from '#contract/runs/run.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { keptWith } from '#engine/model/model.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { attentionOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { depthRange, requireBlocks } from '../budget.ts'
import { count, defineMethod, type MethodInput, type MethodPhase, type MethodResult, timesPasses } from '../method.ts'
import { densePlan, partsOf, presentBlocks, removeParts, variantOf } from '../plan.ts'
import { DenseStates, type Variant, VariantMemory } from '../search/trunk.ts'
import { countSearch, type SearchMeans, VariantRanking } from '../search/variant-ranking.ts'
import type { Recall } from '../search/variants.ts'

/**
 * EvoPress (arXiv 2410.14649): searches by evolution for the removals that change the model's predictions least.
 *
 * Random numbers come from CPython's generator in the order of the 2SSP reference, so one seed makes the same choices. Repaired: counts are
 * capped at what a small model has, and a search without generations returns its best start. Final hidden states are kept instead of the
 * dense logits. If fitness is equal, the earlier candidate wins.
 */
const options = z.object({
  windows: count(64, {
    title: 'Windows',
    unit: 'windows',
    help: 'Calibration windows to score candidates on; the reference uses 131,072 tokens.',
  }),
  firstWindows: z.number().positive().default(1).meta({
    title: 'First selection',
    unit: 'windows',
    help: 'Windows drawn for the start and for each first selection. A fraction uses only the beginning of a window.',
  }),
  finalWindows: z.number().positive().default(16).meta({
    title: 'Final selection',
    unit: 'windows',
    help: 'Windows drawn for each final selection, in which the parent competes again.',
  }),
  startStates: count(64, { title: 'Start states', help: 'Number of random removals to start from. The best becomes the first parent.' }),
  offspring: count(32, { title: 'Offspring', help: 'Number of candidates in each generation.' }),
  finalists: count(2, { title: 'Finalists', help: 'Number of offspring that reach the final selection.' }),
  exchanges: count(3, { title: 'Exchanges', help: 'Maximum number of removals that one mutation exchanges for others.' }),
  generations: z
    .number()
    .int()
    .nonnegative()
    .optional()
    .meta({ title: 'Generations', help: 'Number of generations. Default: K (N - K) / 1.5 if K of N blocks are removed.' }),
})

type Options = z.infer<typeof options>

/** The share of the workspace for streams of plans, which a search fills, and the largest share for the dense model's states. */
const rememberedShare = 0.25

const shared = {
  paper: '2410.14649',
  options,
  windows: ({ windows }: Options) => windows,
  range: depthRange,
  bytes(spec: DecoderSpec, { windows }: Options, tokens: number, workspaceBytes: number): number {
    const most = rememberedShare * workspaceBytes
    return most + Math.min(most, 4 * windows * tokens * spec.hidden)
  },
}

export const evopress = defineMethod({
  id: 'evopress',
  order: 7,
  title: 'EvoPress, whole blocks',
  ...shared,
  summary: 'Searches by evolution for the blocks whose removal changes predictions least.',
  unit: 'block',
  work: (spec, { blocks }, chosen, windows) => evolutionWork(spec, 'block', blocks, chosen, windows),
  plan: (input) => evolve(input, 'block'),
})

export const submoduleEvopress = defineMethod({
  id: 'evopress_submodule',
  order: 8,
  title: 'EvoPress',
  ...shared,
  summary: 'Searches by evolution for the attention submodules and MLPs whose removal changes predictions least.',
  unit: 'submodule',
  work: (spec, { blocks }, chosen, windows) => evolutionWork(spec, 'submodule', blocks, chosen, windows),
  plan: (input) => evolve(input, 'submodule'),
})

const evolving = 'Evolving'

function generationsOf(space: SearchSpace, { exchanges, generations }: Options): number {
  if (space.neighbours(exchanges) === 0) return 0
  return generations ?? Math.floor((space.count * (space.choices - space.count)) / 1.5)
}

/**
 * Rows that pass a part together, for estimates. Each window is multiplied separately, but many windows share the lease of a part. A window
 * then costs about half the overhead of a call of its own.
 */
const rowsOfLeases = 512

/** How many generations an estimate counts. In longer searches they represent the rest. */
const countedGenerations = 64

async function evolutionWork(
  spec: DecoderSpec,
  unit: 'block' | 'submodule',
  count: number,
  chosen: Options,
  available: number,
): Promise<MethodPhase[]> {
  const space = new SearchSpace(spec, count, unit)
  if (count === 0 || count > space.choices) return []
  const generations = generationsOf(space, chosen)
  const counted = Math.min(generations, countedGenerations)
  const windows = Math.min(available, chosen.windows)
  const phase = await countSearch(evolving, spec, windows, (means) => new Evolution(space, chosen, means).run(counted))
  return [{ ...phase, passes: timesPasses(phase.passes, generations / Math.max(1, counted) || 1), rowsPerCall: rowsOfLeases }]
}

async function evolve(
  { view, calibration, budget, options: chosen, run }: MethodInput<Options>,
  unit: 'block' | 'submodule',
): Promise<MethodResult> {
  const dense = densePlan(view.spec)
  if (budget.blocks === 0) return { plan: dense, decisions: [], notes: [] }
  const space = new SearchSpace(view.spec, budget.blocks, unit)
  requireBlocks(budget.blocks, space.choices)
  const recall = recallOf(view)
  const rank = (windows: Windows) => new VariantRanking(view, windows, { recall, signal: run.signal })
  const search = new Evolution(space, chosen, { run, rank, windows: calibration.slice(0, chosen.windows) })
  const best = await search.run(generationsOf(space, chosen))
  return { plan: removeParts(dense, partsOf(best)), decisions: [], selections: search.selections, notes: [] }
}

const selectionStep: StepKind = { version: 2 }

/** Evolves removals. Each selection judges candidates by their divergence from the dense model on windows drawn for it. */
class Evolution {
  readonly selections: Selection[] = []
  readonly #space: SearchSpace
  readonly #options: Options
  readonly #means: SearchMeans
  readonly #random: PythonRandom

  constructor(space: SearchSpace, options: Options, means: SearchMeans) {
    this.#space = space
    this.#options = options
    this.#means = means
    this.#random = new PythonRandom(means.run.seed)
  }

  /** Returns the best removals after this many generations. */
  async run(generations: number): Promise<Variant> {
    const { startStates, firstWindows, finalWindows, finalists, exchanges } = this.#options
    const [space, random, { run }] = [this.#space, this.#random, this.#means]
    const start = drawDistinct(Math.min(startStates, space.states), [], () => space.drawState(random))
    let [parent] = (await this.#select(0, start, firstWindows, 1)) as [Variant]
    const offspring = Math.min(this.#options.offspring, space.neighbours(exchanges))
    for (let generation = 1; generation <= generations; generation++) {
      run.progress(evolving, generation - 1, generations, 'generations')
      const children = drawDistinct(offspring, [parent], () => space.mutate(random.choice([parent]), random, exchanges))
      const best = await this.#select(generation, children, firstWindows, finalists)
      ;[parent] = (await this.#select(generation, [...best, parent], finalWindows, 1)) as [Variant]
    }
    run.progress(evolving, generations, generations, 'generations')
    return parent
  }

  get #certificates() {
    return this.selections.flatMap(({ certified }) => certified ?? [])
  }

  /** Returns the best `survivors` of the candidates, best first. */
  async #select(generation: number, candidates: readonly Variant[], windows: number, survivors: number): Promise<Variant[]> {
    const { run } = this.#means
    const batch = this.#drawWindows(windows)
    const label = `generation ${generation}, selection ${this.selections.filter((done) => done.generation === generation).length + 1}`
    const described = candidates.map(describeState)
    const on = { candidates: described, windows: batch, survivors, earlier: this.#certificates }
    const scored = await run.step({ kind: selectionStep, label, on }, () => this.#score(candidates, batch, survivors))
    const selection: Selection = {
      generation,
      tokens: batch.reduce((sum, { length }) => sum + length, 0),
      candidates: described,
      ...scored,
    }
    this.selections.push(selection)
    run.emit({ type: 'selection', selection })
    return selection.survivors.map((index) => candidates[index] as Variant)
  }

  /** Draws different windows uniformly until `count` windows' worth of tokens is reached. The last window is cut to fit. */
  #drawWindows(count: number): Windows {
    const { windows } = this.#means
    const quota = Math.round(count * (windows[0]?.length ?? 0))
    const drawn = new Set<number>()
    const batch: Int32Array[] = []
    let tokens = 0
    while (tokens < quota && drawn.size < windows.length) {
      const index = this.#random.integer(0, windows.length - 1)
      if (drawn.has(index)) continue
      drawn.add(index)
      const window = (windows[index] as Int32Array).subarray(0, quota - tokens)
      batch.push(window)
      tokens += window.length
    }
    return batch
  }

  async #score(
    candidates: readonly Variant[],
    batch: Windows,
    survivors: number,
  ): Promise<Pick<Selection, 'fitness' | 'survivors' | 'estimated' | 'certified'>> {
    const { run, rank } = this.#means
    const ranking = rank(batch)
    try {
      const found = await ranking.score(candidates, survivors, { earlier: this.#certificates })
      const { scores, survivors: best, estimated, certificate } = found
      return {
        fitness: [...scores],
        survivors: [...best],
        ...(estimated && estimated.length > 0 ? { estimated: [...estimated] } : {}),
        ...(certificate ? { certified: certificate } : {}),
      }
    } finally {
      run.count(ranking.passes)
      ranking.dispose()
    }
  }
}

/** Returns what searches on a model remember while it is open. A later search finds what an earlier one scored. */
function recallOf(view: ModelView): Recall {
  const { model } = view
  const limit = rememberedShare * model.workspaceBytes
  return {
    memory: keptWith(model, 'variants', () => new VariantMemory(limit)),
    dense: keptWith(model, 'dense states', () => new DenseStates(view, limit)),
    seen: new Set(),
  }
}

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
