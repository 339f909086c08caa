import { z } from 'zod'
import type { Selection } from '#contract/runs/run.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { keptWith } from '#engine/model/model.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { depthRange, requireBlocks } from '../budget.ts'
import { count, defineMethod, type MethodInput, type MethodPhase, type MethodResult, timesPasses } from '../method.ts'
import { densePlan, partsOf, removeParts } from '../plan.ts'
import { describeState, drawDistinct, SearchSpace } from '../search/evolution.ts'
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

const shared = { paper: '2410.14649', options, windows: ({ windows }: Options) => windows, range: depthRange }

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

const selectionStep: StepKind = { version: 1 }

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
  const limit = model.workspaceBytes / 4
  return {
    memory: keptWith(model, 'variants', () => new VariantMemory(limit)),
    dense: keptWith(model, 'dense states', () => new DenseStates(view, limit)),
    seen: new Set(),
  }
}
