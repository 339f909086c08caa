import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { openModel } from '#engine/model/model.ts'
import type { MethodResult } from '#engine/pruning/method.ts'
import { evopress, submoduleEvopress } from '#engine/pruning/methods/evopress.ts'
import { expectedOf, fullModels, type ReferenceModel } from '../../../fixtures/reference.ts'
import { type Bench, masksOf, openReference, prune, recordedRun, relativeError, testPerplexity } from '../running.ts'

interface RecordedSelection {
  readonly num_tokens: number
  readonly candidates: [attention: string, mlp: string][]
  readonly fitness: number[]
  readonly survivors: number[]
}

interface RecordedSearch {
  readonly K: number
  readonly generations: number
  readonly attn_mask: number[]
  readonly mlp_mask: number[]
  readonly selection_calls: RecordedSelection[]
  readonly ppl_test_f64: number
}

interface Expected {
  readonly evopress_whole: RecordedSearch[]
  readonly evopress_submodule: RecordedSearch[]
}

function expectSameSelections({ selections = [] }: MethodResult, recorded: RecordedSearch): void {
  expect(selections).toHaveLength(recorded.selection_calls.length)
  recorded.selection_calls.forEach((call, index) => {
    const own = selections[index]
    expect(own?.tokens).toBe(call.num_tokens)
    expect(own?.candidates).toEqual(call.candidates.map((masks) => masks.join('/')))
    expect(own?.survivors).toEqual(call.survivors)
    call.fitness.forEach((fitness, candidate) => {
      expect(relativeError(own?.fitness[candidate] ?? 0, fitness)).toBeLessThan(1e-4)
    })
  })
}

/** Whole blocks are drawn and scored as submodules are: a sequential and a parallel residual are enough. */
const wholeOn: readonly ReferenceModel[] = ['stories260k', 'phi-tiny']

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)

  const searches = [
    ['evopress_submodule', submoduleEvopress],
    ...(wholeOn.includes(name) ? [['evopress_whole', evopress] as const] : []),
  ] as const
  test.each(searches)('%s draws, scores and selects as the reference did with seed 0', async (kind, method) => {
    const expected = await expectedOf<Expected>(name)
    for (const recorded of expected[kind]) {
      const result = await prune(method, open(), { blocks: recorded.K })
      expectSameSelections(result, recorded)
      expect(masksOf(result.plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      // The masks decide the forward pass, so one plan is measured.
      if (recorded === expected[kind].at(-1))
        expect(relativeError(await testPerplexity(open(), result.plan), recorded.ppl_test_f64)).toBeLessThan(1e-4)
    }
  })
})

describe('mistral-tiny', () => {
  const open = openReference('mistral-tiny')

  test('another seed draws other candidates', async () => {
    const options = { windows: 2, finalWindows: 2 }
    const { selections } = await prune(evopress, open(), { blocks: 2 }, options, recordedRun(1))
    const other = await prune(evopress, open(), { blocks: 2 }, options)
    expect(selections?.[0]?.candidates).not.toEqual(other.selections?.[0]?.candidates)
  })

  test.each([evopress, submoduleEvopress])(
    '$title: what earlier runs scored is not computed again, and every score keeps its bits',
    async (method) => {
      const options = { windows: 4, finalWindows: 3, firstWindows: 1.5, offspring: 4, startStates: 4 }
      const alone = { ...open(), model: await openModel(open().model.path) }
      const forgetful = { ...alone, model: { ...alone.model, workspaceBytes: 0, kept: new Map() } }
      const search = async (bench: Bench, blocks: number) => {
        const run = recordedRun()
        const { selections } = await prune(method, bench, { blocks }, options, run)
        return { selections, passes: run.passes, needed: run.passes.attention + run.passes.mlp + (run.passes.recalled ?? 0) }
      }
      const without = [await search(forgetful, 1), await search(forgetful, 2)]
      const tensors = memory().numTensors
      const first = await search(alone, 1)
      const [second, again] = [await search(alone, 2), await search(alone, 2)]
      expect([first.selections, second.selections, again.selections]).toEqual([...without, without[1]].map((one) => one?.selections))
      expect(again.needed).toBe(second.needed)
      expect(again.passes).toMatchObject({ attention: 0, mlp: 0, head: 0 })
      expect(second.passes.recalled).toBeGreaterThan(without[1]?.passes.recalled ?? 0)
      for (const one of alone.model.kept.values()) one.dispose()
      expect(memory().numTensors - tensors).toBeLessThanOrEqual(0)
      for (const one of forgetful.model.kept.values()) one.dispose()
      await alone.model.close()
    },
  )

  test('asks for no more windows than there are', async () => {
    const { selections } = await prune(
      submoduleEvopress,
      open(),
      { blocks: 1 },
      { windows: 3, generations: 1, offspring: 2, startStates: 2 },
    )
    expect(selections?.at(-1)?.tokens).toBe(3 * 256)
  })
})
