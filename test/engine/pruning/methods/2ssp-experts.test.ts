import { beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { blockParameters, expertParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { openSpec, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { withoutExperts } from '#engine/pruning/experts/experts-first.ts'
import type { MethodResult } from '#engine/pruning/method.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { expectedOf, type MixtureModel, mixtureModels, referenceModel } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { type Bench, openReference, prune, type RecordedRun, recordedRun, relativeError, testPerplexity } from '../running.ts'

type ByBlock<T> = Readonly<Record<string, T>>
interface Recorded {
  readonly rate: number
  readonly kept: ByBlock<ByBlock<number[]>>
  readonly ppl_test_f64: number
  readonly stage2: Attentions
}

interface Attentions {
  readonly order: readonly number[]
  readonly rounds: readonly { readonly candidates: ByBlock<number> }[]
  readonly ppl_test_f64: number
}
interface ExpertsFirst {
  readonly removed: ByBlock<number[]>
}
interface Expected {
  readonly neurons: { readonly gated: Recorded }
  readonly experts_then_neurons: ExpertsFirst & Pick<Recorded, 'kept'> & Pick<Attentions, 'ppl_test_f64'>
  readonly experts_then_attention: ExpertsFirst & Attentions
}

const backend = await openBackend(testedBackend)

/**
 * Experts that go first are chosen as by REAP, whose test compares its choice on every mixture in mixed precision. So in that precision a
 * plain mixture, one beside other token mixers, and one with biases are enough.
 */
const expertsFirstInMixed: readonly MixtureModel[] = ['olmoe', 'qwen3_5_moe', 'gpt_oss']

describe.each(mixtureModels)('2SSP on %s', (name) => holdToRecorded(name, openReference(name)))
describe.skipIf(!backend.bf16).each(mixtureModels)('2SSP on %s in mixed precision', (name) => {
  const open = openReference(name)
  const inMixed = () => ({ ...open(), model: withProducts(open().model, productsFor('mixed')) })
  holdToRecorded(name, inMixed, expertsFirstInMixed.includes(name))
})

function holdToRecorded(name: MixtureModel, open: () => Bench, expertsFirst = true): void {
  let recorded: Recorded
  let expected: Expected
  beforeAll(async () => {
    expected = await expectedOf<Expected>(name)
    recorded = expected.neurons.gated
  })

  /** The sparsity that removes a quarter of the experts' neurons and as much as `attention` mean attentions. */
  function sparsityWith(attention: number, spec: DecoderSpec = open().model.spec): number {
    const experts = [...spec.blocks.keys()].reduce((sum, block) => sum + expertParameters(spec.block(block)), 0)
    return attentionsOf(spec, attention) + (recorded.rate * experts) / stackParameters(spec)
  }

  function attentionsOf(spec: DecoderSpec, count: number): number {
    const mean = spec.blocks.reduce((sum, _, block) => sum + blockParameters(spec, block).attention, 0) / spec.blocks.length
    // Rounding must not leave less than the attentions need.
    return (count * mean) / stackParameters(spec) + 1e-9
  }

  test('keeps the recorded neurons of every expert, and then removes the recorded attentions', async () => {
    const { plan, decisions } = await prune(twoStage, open(), { sparsity: sparsityWith(2) }, { attention: 2, windows: 8 })
    expect(keptOf(plan)).toEqual(recorded.kept)
    const narrowed = { ...plan, blocks: plan.blocks.map((block) => ({ ...block, attention: 'kept' as const })) }
    expect(relativeError(await testPerplexity(open(), narrowed, 16), recorded.ppl_test_f64)).toBeLessThan(1e-4)
    await expectAttentions({ plan, decisions }, recorded.stage2)
  })

  test.runIf(expertsFirst)(
    'removes the recorded experts first, then the recorded neurons of the others, or the recorded attentions',
    async () => {
      const quarter = { experts: 0.25, windows: 8 }
      const shape = open().model.spec
      const { left } = withoutExperts(shape, 1, quarter.experts)
      const sparsityOf = (rest: number) => 1 - ((1 - rest) * stackParameters(left)) / stackParameters(shape)
      const steps = new Map<string, string>()
      const { experts_then_neurons: narrowed, experts_then_attention: removed } = expected

      const narrow = await prune(
        twoStage,
        open(),
        { sparsity: sparsityOf(sparsityWith(0, left)) },
        { ...quarter, stages: 'first' },
        recordedRun(0, steps),
      )
      expect(keptOf(narrow.plan)).toEqual(narrowed.kept)
      expect(relativeError(await testPerplexity(open(), narrow.plan, 16), narrowed.ppl_test_f64)).toBeLessThan(1e-4)

      const both = (run: RecordedRun) =>
        prune(twoStage, open(), { sparsity: sparsityOf(attentionsOf(left, 2)) }, { ...quarter, attention: 2 }, run)
      const result = await both(recordedRun(0, steps))
      const resumed = recordedRun(0, steps)
      expect((await both(resumed)).plan).toEqual(result.plan)
      expect(resumed.computed).toEqual([])
      const gone = (block: string) =>
        Array.from({ length: 8 }, (_, one) => one).filter((one) => !keptExpertsOf(result.plan, block).includes(one))
      expect(Object.fromEntries(Object.keys(removed.removed).map((block) => [block, gone(block)]))).toEqual(removed.removed)
      await expectAttentions(result, removed)
    },
  )

  async function expectAttentions(
    { plan, decisions }: Pick<MethodResult, 'plan' | 'decisions'>,
    { order, rounds, ppl_test_f64 }: Attentions,
  ) {
    expect(decisions.map(({ block }) => block)).toEqual(order)
    for (const [round, { candidates }] of rounds.entries())
      for (const [block, perplexity] of Object.entries(candidates)) {
        const own = decisions[round]?.scores.find((score) => score.block === Number(block))
        if (own?.estimated && own.block !== order[round]) continue
        expect(relativeError(own?.perplexity ?? Number.NaN, perplexity), `round ${round}, block ${block}`).toBeLessThan(1e-4)
      }
    expect(relativeError(await testPerplexity(open(), plan, 16), ppl_test_f64)).toBeLessThan(1e-4)
  }
}

function keptExpertsOf({ blocks }: Plan, block: string): readonly number[] {
  const mlp = blocks[Number(block)]?.mlp
  return mlp === undefined || mlp === 'removed' ? [] : (mlp.experts ?? [])
}

/** The neurons that a plan keeps of each expert, by block and the expert's number in the model. */
function keptOf({ blocks }: Plan): Record<string, Record<string, readonly number[]>> {
  const kept = blocks.flatMap(({ mlp }, block) => {
    if (mlp === 'removed' || !mlp.keptByExpert) return []
    return [[block, Object.fromEntries(mlp.keptByExpert.map((own, place) => [mlp.experts?.[place] ?? place, own]))] as const]
  })
  return Object.fromEntries(kept)
}

test('a share of experts that is more than the sparsity is refused', async () => {
  const { spec } = await openSpec(await referenceModel('olmoe'))
  expect(() => twoStage.outline?.(spec, { sparsity: 0.1, blocks: 1 }, twoStage.options.parse({ experts: 0.25 }))).toThrow(
    'Choose a higher sparsity or a smaller share.',
  )
})

test('a mixture loses no hidden channels', async () => {
  const spec = { router: {}, blocks: [] } as never
  expect(() => twoStage.outline?.(spec, { sparsity: 0.5, blocks: 1 }, twoStage.options.parse({ cut: 'channels' }))).toThrow(
    'mixtures of experts',
  )
})
