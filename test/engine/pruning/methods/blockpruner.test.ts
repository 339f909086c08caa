import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { scoreOf } from '#contract/pruning/candidates.ts'
import type { Decision } from '#contract/runs/run.ts'
import { blockPruner, submoduleBlockPruner } from '#engine/pruning/methods/blockpruner.ts'
import { blockParts, densePlan, removeParts } from '#engine/pruning/plan.ts'
import { expectedOf, fullModels, type ReferenceModel, variedModels } from '../../../fixtures/reference.ts'
import { masksOf, openReference, prune, recordedRun, relativeError, testPerplexity } from '../running.ts'

interface RecordedRemovals {
  readonly K: number
  readonly attn_mask: number[]
  readonly mlp_mask: number[]
  readonly removed_in_order: [string, number][]
  readonly rounds: { readonly candidates: { readonly block: number; readonly ppl: number }[] }[]
  readonly ppl_test_f64: number
}

const kinds = [
  ['blockpruner_whole', blockPruner],
  ['blockpruner_submodule', submoduleBlockPruner],
] as const

async function recordedRemovals(name: ReferenceModel, kind: string): Promise<RecordedRemovals[]> {
  const recorded = (await expectedOf<Record<string, RecordedRemovals[] | undefined>>(name))[kind]
  if (!recorded) throw new Error(`Nothing is recorded of ${kind} on ${name}.`)
  return recorded
}

function expectSameRounds(decisions: readonly Decision[], recorded: RecordedRemovals): void {
  expect(decisions.map(({ kind, block }) => [kind, block])).toEqual(recorded.removed_in_order)
  recorded.rounds.forEach(({ candidates }, round) => {
    const scores = decisions[round]?.scores ?? []
    expect(scores.map(({ block }) => block)).toEqual(candidates.map(({ block }) => block))
    candidates.forEach(({ ppl }, index) => {
      expect(relativeError(scores[index]?.perplexity ?? 0, ppl)).toBeLessThan(1e-4)
    })
  })
}

describe.each([...fullModels, ...variedModels])('%s', (name) => {
  const open = openReference(name)
  // For the varied models, the reference recorded only submodules.
  const recordedKinds = kinds.filter(([kind]) => fullModels.includes(name as never) || kind === 'blockpruner_submodule')

  test.each(recordedKinds)('%s removes what the reference removed, in its order', async (kind, method) => {
    // Counts share their first rounds.
    const steps = new Map<string, string>()
    const recordings = await recordedRemovals(name, kind)
    for (const recorded of recordings) {
      const { plan, decisions } = await prune(method, open(), { blocks: recorded.K }, {}, recordedRun(0, steps))
      expect(masksOf(plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      expectSameRounds(decisions, recorded)
      // The masks decide the forward pass, so one plan is measured.
      if (fullModels.includes(name as never) && recorded === recordings.at(-1))
        expect(relativeError(await testPerplexity(open(), plan), recorded.ppl_test_f64)).toBeLessThan(1e-4)
    }
  })
})

describe.each(variedModels)('%s', (name) => {
  const open = openReference(name)

  test('whole blocks are removed by the perplexity of a view without them', async () => {
    const { model, calibration } = open()
    const { decisions } = await prune(blockPruner, open(), { blocks: 2 })
    const gone: number[] = []
    for (const { block, scores } of decisions) {
      expect(scores).toHaveLength(model.spec.blocks.length - gone.length)
      for (const score of scores) {
        const plan = removeParts(densePlan(model.spec), blockParts([...gone, score.block]))
        const alone = await testPerplexity({ ...open(), test: calibration }, plan, 1)
        expect(relativeError(scoreOf(score).value, alone)).toBeLessThan(1e-6)
      }
      const values = scores.map((score) => scoreOf(score).value)
      expect(scores[values.indexOf(Math.min(...values))]?.block).toBe(block)
      gone.push(block)
    }
    expect(gone).toHaveLength(2)
  })
})

describe('mistral-tiny', () => {
  const open = openReference('mistral-tiny')

  test('a smaller count costs nothing after a larger one in the same experiment', async () => {
    const first = recordedRun()
    await prune(submoduleBlockPruner, open(), { blocks: 3 }, {}, first)
    const second = recordedRun(0, first.steps)
    const { plan, decisions } = await prune(submoduleBlockPruner, open(), { blocks: 2 }, {}, second)
    expect(second.passes).toEqual({ attention: 0, mlp: 0, head: 0 })
    expect(plan).toEqual((await prune(submoduleBlockPruner, open(), { blocks: 2 })).plan)
    expect(decisions).toHaveLength(4)
  })

  test('shares the stream up to each candidate, so that passes stay below one stack per candidate', async () => {
    const run = recordedRun()
    await prune(blockPruner, open(), { blocks: 3 }, {}, run)
    // 6 + 5 + 4 candidates; scored alone, each would run 5, 4 and 3 blocks.
    expect(run.passes.head).toBe(15)
    expect(run.passes.attention).toBeLessThan(6 * 5 + 5 * 4 + 4 * 3)
  })

  test('the free ratio takes the better of both kinds, and many windows decide together', async () => {
    const paired = await prune(submoduleBlockPruner, open(), { blocks: 1 }, { windows: 3 })
    const tensors = memory().numTensors
    const { decisions } = await prune(submoduleBlockPruner, open(), { blocks: 2 }, { ratio: 'free', windows: 3 })
    const [attention, mlp] = paired.decisions.map(({ scores }) => Math.min(...scores.map((score) => scoreOf(score).value)))
    const free = Math.min(...(decisions[0]?.scores ?? []).map((score) => scoreOf(score).value))
    expect(decisions).toHaveLength(4)
    expect(free).toBeLessThanOrEqual(attention ?? 0)
    expect(mlp).toBeGreaterThan(0)
    expect(memory().numTensors - tensors, 'frees all but the model').toBe(0)
  })

  test('refuses more than there is', async () => {
    await expect(prune(submoduleBlockPruner, open(), { sparsity: 1.01 })).rejects.toThrow('Choose at most 6')
  })
})
