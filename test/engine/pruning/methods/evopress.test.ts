import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { MethodResult } from '#engine/pruning/method.ts'
import { evopress, submoduleEvopress } from '#engine/pruning/methods/evopress.ts'
import { expectedOf, fullModels } from '../../../fixtures/reference.ts'
import { masksOf, openReference, prune, recordedRun, relativeError, testPerplexity } from '../running.ts'

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

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)

  test.each([
    ['evopress_whole', evopress],
    ['evopress_submodule', submoduleEvopress],
  ] as const)('%s draws, scores and selects as the reference did with seed 0', async (kind, method) => {
    const expected = await expectedOf<Expected>(name)
    for (const recorded of expected[kind]) {
      const result = await prune(method, open(), { blocks: recorded.K })
      expectSameSelections(result, recorded)
      expect(masksOf(result.plan)).toEqual({ attention: recorded.attn_mask, mlp: recorded.mlp_mask })
      expect(relativeError(await testPerplexity(open(), result.plan), recorded.ppl_test_f64)).toBeLessThan(1e-4)
    }
  })
})

describe('mistral-tiny', () => {
  const open = openReference('mistral-tiny')

  test('another seed draws other candidates; dense states are computed once per window', async () => {
    const options = { windows: 2, finalWindows: 2 }
    const run = recordedRun(1)
    const { selections } = await prune(evopress, open(), { blocks: 2 }, options, run)
    const other = await prune(evopress, open(), { blocks: 2 }, options)
    expect(selections?.[0]?.candidates).not.toEqual(other.selections?.[0]?.candidates)
    const tensors = memory().numTensors
    await prune(evopress, open(), { blocks: 2 }, { ...options, finalWindows: 0.5 })
    expect(memory().numTensors - tensors).toBe(0)
  })

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
