import { beforeAll, describe, expect, test } from 'vitest'
import { blockParameters, expertParameters, stackParameters } from '#engine/architectures/parameters.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { expectedOf, mixtureModels } from '../../../fixtures/reference.ts'
import { openReference, prune, relativeError, testPerplexity } from '../running.ts'

type ByBlock<T> = Readonly<Record<string, T>>
interface Recorded {
  readonly rate: number
  readonly width: number
  readonly kept: ByBlock<ByBlock<number[]>>
  readonly ppl_test_f64: number
  readonly stage2: {
    readonly order: readonly number[]
    readonly rounds: readonly { readonly candidates: ByBlock<number> }[]
    readonly ppl_test_f64: number
  }
}

describe.each(mixtureModels)('2SSP on %s', (name) => {
  const open = openReference(name)
  let recorded: Recorded
  beforeAll(async () => {
    recorded = (await expectedOf<{ neurons: { gated: Recorded } }>(name)).neurons.gated
  })

  /** The sparsity of a quarter of the experts' neurons and as many mean attentions. */
  function sparsityWith(attention: number): number {
    const { spec } = open().model
    const blocks = [...spec.blocks.keys()]
    const mean = blocks.reduce((sum, block) => sum + blockParameters(spec, block).attention, 0) / blocks.length
    const experts = blocks.reduce((sum, block) => sum + expertParameters(spec.block(block)), 0)
    return (attention * mean + recorded.rate * experts) / stackParameters(spec)
  }

  test('keeps the recorded neurons of every expert, and then removes the recorded attentions', async () => {
    const { plan: narrow } = await prune(twoStage, open(), { sparsity: sparsityWith(0) }, { stages: 'first', windows: 8 })
    const kept = narrow.blocks.flatMap(({ mlp }, block) =>
      mlp === 'removed' || !mlp.keptByExpert ? [] : [[block, Object.fromEntries(mlp.keptByExpert.entries())] as const],
    )
    expect(Object.fromEntries(kept)).toEqual(recorded.kept)
    expect(relativeError(await testPerplexity(open(), narrow, 16), recorded.ppl_test_f64)).toBeLessThan(1e-4)

    const { plan, decisions } = await prune(twoStage, open(), { sparsity: sparsityWith(2) }, { attention: 2, windows: 8 })
    expect(plan.blocks.map(({ mlp }) => mlp)).toEqual(narrow.blocks.map(({ mlp }) => mlp))
    expect(decisions.map(({ block }) => block)).toEqual(recorded.stage2.order)
    for (const [round, { candidates }] of recorded.stage2.rounds.entries())
      for (const [block, perplexity] of Object.entries(candidates)) {
        const own = decisions[round]?.scores.find((score) => score.block === Number(block))
        expect(relativeError(own?.perplexity ?? Number.NaN, perplexity), `round ${round}, block ${block}`).toBeLessThan(1e-4)
      }
    expect(relativeError(await testPerplexity(open(), plan, 16), recorded.stage2.ppl_test_f64)).toBeLessThan(1e-4)
  })
})

test('a mixture loses no hidden channels', async () => {
  const spec = { router: {}, blocks: [] } as never
  expect(() => twoStage.outline?.(spec, { sparsity: 0.5, blocks: 1 }, twoStage.options.parse({ cut: 'channels' }))).toThrow(
    'mixtures of experts',
  )
})
