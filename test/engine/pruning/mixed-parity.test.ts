import { availableParallelism } from 'node:os'
import { memory } from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Decision, Selection } from '#contract/runs/run.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { Method } from '#engine/pruning/method.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { blockPruner, submoduleBlockPruner } from '#engine/pruning/methods/blockpruner.ts'
import { evopress, submoduleEvopress } from '#engine/pruning/methods/evopress.ts'
import { shortgpt } from '#engine/pruning/methods/shortgpt.ts'
import { windowBased } from '#engine/pruning/methods/window-based.ts'
import { makeModel, makeWindows } from '../../fixtures/bench-model.ts'
import { runtimeTypes } from '../../fixtures/processor-features.ts'
import { expectedOf, fullModels, type ReferenceModel, referenceModel, referenceWindows, variedModels } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { asOnGpu, computeWith } from '../backend/as-on-gpu.ts'
import { computeOn, runsAllModels, testedDevices } from '../backend/every-device/devices.ts'
import { type Bench, masksOf, prune, recordedRun, relativeError, testPerplexity } from './running.ts'

interface Masks {
  readonly K: number
  readonly attn_mask: number[]
  readonly mlp_mask: number[]
  readonly ppl_test_f64: number
}

interface Candidates {
  readonly candidates: readonly { readonly block: number; readonly ppl: number }[]
}

interface Expected {
  readonly '2ssp': readonly {
    readonly rate: number
    readonly kept_neurons: number[][]
    readonly removed_attention_in_order: number[]
    readonly stage2_rounds: readonly Candidates[]
    readonly ppl_test_f64?: number
    readonly ppl_test16_f64?: number
  }[]
  readonly [search: string]: unknown
}

interface RecordedGreedy extends Masks {
  readonly removed_in_order: [string, number][]
  readonly rounds: readonly Candidates[]
}

interface RecordedSearch extends Masks {
  readonly selection_calls: readonly { readonly fitness: number[]; readonly survivors: number[] }[]
}

const greedy = { blockpruner_whole: blockPruner, blockpruner_submodule: submoduleBlockPruner } as unknown as Record<string, Method>
const evolutions = { evopress_whole: evopress, evopress_submodule: submoduleEvopress } as unknown as Record<string, Method>
const depth = { shortgpt, window_based: windowBased } as unknown as Record<string, Method>

/** Smaller than the weights of the small trained Llama, larger than two of its submodules. */
const streamedBytes = 600_000

const backend = await computeOn('tensorflow-cpu')

/** Compares the candidates' scores with the reference's, except those that were only estimated, which the winner's must not be. */
function expectScores(decisions: readonly Decision[], rounds: readonly Candidates[]): void {
  rounds.forEach(({ candidates }, round) => {
    const { scores = [], block: chosen } = decisions[round] ?? {}
    expect(scores.map(({ block }) => block)).toEqual(candidates.map(({ block }) => block))
    scores.forEach(({ block, perplexity: own = Number.NaN, estimated }, index) => {
      if (block === chosen) expect(estimated).toBeUndefined()
      if (!estimated) expect(relativeError(own, candidates[index]?.ppl ?? 0), `round ${round + 1}, block ${block}`).toBeLessThan(1e-4)
    })
  })
}

function expectFitness(selections: readonly Selection[], calls: RecordedSearch['selection_calls']): void {
  expect(selections.map(({ survivors }) => survivors)).toEqual(calls.map(({ survivors }) => survivors))
  selections.forEach(({ fitness, estimated = [] }, index) => {
    fitness.forEach((own, place) => {
      if (!estimated.includes(place)) expect(relativeError(own, calls[index]?.fitness[place] ?? 0)).toBeLessThan(1e-4)
    })
  })
}

/** An evolution scores the variants that the greedy searches score on every model: a trained one, one with biases, one with fused projections. */
const evolvedOn: Partial<Record<ReferenceModel, readonly string[]>> = {
  stories260k: ['evopress_whole', 'evopress_submodule'],
  'qwen2-tiny': ['evopress_submodule'],
  'phi3-tiny': ['evopress_submodule'],
}
const evolvingOn = (name: ReferenceModel) =>
  Object.fromEntries(Object.entries(evolutions).filter(([kind]) => evolvedOn[name]?.includes(kind)))

// The tests of each method compare it with the reference's recorded results in float32. These compare the same results in `mixed`.
describe.skipIf(!backend.bf16).each([...fullModels, ...variedModels])('%s in mixed precision', (name) =>
  holdToRecorded(name, evolvingOn(name)),
)

// A gated and a plain MLP, a parallel residual, biases, partly rotated heads, a sliding window.
describe.skipIf(!runtimeTypes.includes('bfloat16')).each(['phi-tiny', 'mistral-window'] as const)(
  '%s in mixed precision as on a GPU',
  (name) => {
    computeWith(asOnGpu('bfloat16'))
    // Whole blocks are scored as submodules are.
    holdToRecorded(name, { evopress_submodule: evolutions.evopress_submodule as Method })
  },
)

const throughGgml = testedDevices.filter((device) => device !== 'tensorflow-cpu' && runsAllModels(device))
describe.each(throughGgml)('mixed precision on %s', (device) => {
  beforeAll(() => computeOn(device))
  afterAll(() => computeOn('tensorflow-cpu'))
  // The depth methods pass in float32, as they do without `mixed`; an evolution scores the variants that the greedy searches score.
  holdToRecorded('phi-tiny', {}, {})
})

function holdToRecorded(name: ReferenceModel, evolving: Record<string, Method>, passing = depth): void {
  let bench: Bench
  let expected: Expected
  beforeAll(async () => {
    expected = await expectedOf<Expected>(name)
    bench = {
      model: withProducts(await openModel(await referenceModel(name)), productsFor('mixed')),
      calibration: await referenceWindows('calibration'),
      test: await referenceWindows('test'),
    }
  })
  afterAll(() => bench.model.close())

  const testError = async (plan: Plan, recorded: number, windows?: number) =>
    relativeError(await testPerplexity(bench, plan, windows), recorded)

  test('2SSP keeps the recorded neurons and removes attention in the recorded order', async () => {
    const steps = new Map<string, string>()
    for (const recorded of expected['2ssp']) {
      const windows = recorded.ppl_test16_f64 === undefined ? 32 : 8
      const { plan, decisions } = await prune(twoStage, bench, { sparsity: recorded.rate }, { windows }, recordedRun(0, steps))
      expect(plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept))).toEqual(recorded.kept_neurons)
      expect(decisions.map(({ block }) => block)).toEqual(recorded.removed_attention_in_order)
      expectScores(decisions, recorded.stage2_rounds)
      expect(decisions.every(({ certified }) => certified !== undefined)).toBe(true)
      // The kept neurons and attentions decide the forward pass, so one plan is measured.
      if (recorded !== expected['2ssp'].at(-1)) continue
      const short = recorded.ppl_test16_f64 === undefined ? undefined : 16
      expect(await testError(plan, recorded.ppl_test16_f64 ?? recorded.ppl_test_f64 ?? Number.NaN, short)).toBeLessThan(1e-4)
    }
  })

  test.each(Object.entries(greedy))('%s removes what the reference removed, in its order', async (kind, method) => {
    const recordings = (expected[kind] ?? []) as readonly RecordedGreedy[]
    // For the varied models, the reference recorded only submodules.
    expect(recordings.length > 0).toBe(fullModels.includes(name as never) || kind === 'blockpruner_submodule')
    const steps = new Map<string, string>()
    for (const recorded of recordings) {
      const { plan, decisions } = await prune(method, bench, { blocks: recorded.K }, {}, recordedRun(0, steps))
      expect(masksOf(plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      expect(decisions.map(({ kind: removed, block }) => [removed, block])).toEqual(recorded.removed_in_order)
      expectScores(decisions, recorded.rounds)
    }
  })

  test.runIf(fullModels.includes(name as never)).each(Object.entries(evolving))('%s selects as the reference did', async (kind, method) => {
    for (const recorded of expected[kind] as readonly RecordedSearch[]) {
      const tensors = memory().numTensors
      const { plan, selections = [] } = await prune(method, bench, { blocks: recorded.K })
      expectFitness(selections, recorded.selection_calls)
      expect(masksOf(plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      // Frees what searches keep with the model; its weights stay.
      for (const one of bench.model.kept.values()) one.dispose()
      expect(memory().numTensors - tensors).toBeLessThan(200)
    }
  })

  test.runIf(fullModels.includes(name as never)).each(Object.entries(passing))('%s removes the recorded blocks', async (kind, method) => {
    const run = recordedRun()
    const recordings = expected[kind] as readonly Masks[]
    for (const recorded of recordings) {
      const { plan } = await prune(method, bench, { blocks: recorded.K }, {}, run)
      expect(masksOf(plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      // The masks decide the forward pass, so one plan is measured.
      if (recorded === recordings.at(-1)) expect(await testError(plan, recorded.ppl_test_f64)).toBeLessThan(1e-4)
    }
  })
}

// One model is enough for what does not depend on the family.
describe.skipIf(!backend.bf16)('a mixed search', () => {
  const amount = { blocks: 2 }
  const searches = [
    ['2ssp', twoStage, { windows: 2, attention: 3 }],
    ['blockpruner_submodule', submoduleBlockPruner, {}],
    ['evopress', evopress, { windows: 3, finalWindows: 2, startStates: 6, offspring: 6, generations: 2 }],
  ] as unknown as [string, Method, object][]
  let bench: Bench
  beforeAll(async () => {
    bench = { ...(await openBench(undefined)), test: [] }
  })
  afterAll(() => bench.model.close())

  async function openBench(memoryBytes: number | undefined): Promise<Pick<Bench, 'model' | 'calibration'>> {
    const calibration = (await referenceWindows('calibration')).slice(0, 4).map((window) => window.slice(0, 64))
    return { model: withProducts(await openModel(await referenceModel('stories260k'), memoryBytes), productsFor('mixed')), calibration }
  }

  test.each(searches)('of %s that was killed ends as one that was not', async (_, method, options) => {
    const steps = new Map<string, string>()
    const whole = await prune(method, bench, amount, options, recordedRun(0, steps))
    for (const stopAfter of [1, steps.size - 1]) {
      const known = new Map<string, string>()
      await expect(prune(method, bench, amount, options, recordedRun(0, known, stopAfter))).rejects.toThrow('killed')
      expect(await prune(method, bench, amount, options, recordedRun(0, known))).toEqual(whole)
    }
  })

  test.each(searches.slice(0, 2))('of %s chooses the same with streamed weights', async (_, method, options) => {
    const streamed = { ...(await openBench(streamedBytes)), test: [] }
    expect(streamed.model.store.residency).toBe('streamed')
    const [own, whole] = [await prune(method, streamed, amount, options), await prune(method, bench, amount, options)]
    expect(own.plan).toEqual(whole.plan)
    expect(own.decisions.map(({ block }) => block)).toEqual(whole.decisions.map(({ block }) => block))
    await streamed.model.close()
  })

  test('that is cancelled ends with that, and leaves no tensors', async () => {
    const aborted = new AbortController()
    const tensors = memory().numTensors
    let rounds = 0
    const run = { ...recordedRun(), signal: aborted.signal, progress: () => void (++rounds === 3 && aborted.abort(new Error('cancelled'))) }
    await expect(prune(submoduleBlockPruner, bench, amount, {}, run)).rejects.toThrow('cancelled')
    expect(memory().numTensors - tensors).toBeLessThan(5)
  })

  // With long windows and a large head, code that runs without a pause would be noticed. Measures processor time, because other programs
  // may use the machine.
  describe('on a large model', () => {
    const shape = { blocks: 2, hidden: 256, intermediate: 768, heads: 4, keyValueHeads: 2, vocabulary: 16384, dtype: 'F32' } as const
    const folder = scratchFolder('cancel')
    let large: Bench
    beforeAll(async () => {
      const model = withProducts(await openModel(await makeModel(folder, shape)), productsFor('mixed'))
      large = { model, calibration: makeWindows(2, 1024, shape.vocabulary).map((ids) => Int32Array.from(ids)), test: [] }
    })
    afterAll(() => large.model.close())

    // The time between pauses depends on the sizes of the model; two rounds contain every kind of pause.
    const few: Record<string, object> = {
      '2ssp': { windows: 2, attention: 2 },
      evopress: { windows: 2, finalWindows: 1, startStates: 3, offspring: 3, generations: 1 },
    }
    test.each(searches)('%s that is cancelled ends within 200 ms', async (id, method) => {
      const options = few[id] ?? {}
      const { model, calibration } = large
      const short = calibration.slice(0, 1).map((window) => window.subarray(0, 16))
      const cores = Number(process.env.TF_NUM_INTRAOP_THREADS ?? availableParallelism())
      // Without a search's kept data, and with all weights in memory, because reading them takes extra turns.
      const forget = async () => {
        for (const one of model.kept.values()) one.dispose()
        await perplexity(denseView(model), short)
        return memory().numTensors
      }
      await forget()
      const whole = await watched(large, method, options, Number.POSITIVE_INFINITY)
      const tensors = await forget()
      for (const share of [0.1, 0.4, 0.7]) {
        const { seconds } = await watched(large, method, options, Math.floor(share * whole.turns))
        expect(seconds / cores).toBeLessThan(0.2)
        expect((await forget()) - tensors).toBeLessThan(5)
      }
    })
  })

  /**
   * A search that is cancelled after a number of turns of the event loop; returns its turns, and the processor seconds from the last one to
   * its end.
   */
  async function watched(own: Bench, method: Method, options: object, last: number): Promise<{ turns: number; seconds: number }> {
    const aborted = new AbortController()
    let [turns, begun, ended] = [0, process.cpuUsage(), false]
    const watch = () => {
      if (ended || aborted.signal.aborted) return
      if (++turns > last) return aborted.abort(new Error('cancelled'))
      begun = process.cpuUsage()
      setImmediate(watch)
    }
    setImmediate(watch)
    const search = prune(method, own, { blocks: 1 }, options, { ...recordedRun(), signal: aborted.signal })
    await (Number.isFinite(last) ? expect(search).rejects.toThrow('cancelled') : search)
    ended = true
    const { user, system } = process.cpuUsage(begun)
    return { turns, seconds: (user + system) / 1e6 }
  }
})
