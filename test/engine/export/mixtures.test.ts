import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { defined } from '#engine/architectures/spec.ts'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { stock } from '#engine/export/formats/stock.ts'
import { vllmExperts } from '#engine/export/formats/vllm-experts.ts'
import { openModel } from '#engine/model/model.ts'
import { constantsName } from '#engine/model/views/plan-tensors.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { expectedOf, type MixtureModel, mixtureModels, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { storeTensors } from '../../fixtures/store-tensors.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { logitsOf } from '../model/logits.ts'

type ByBlock<T> = Readonly<Record<string, T>>
interface Left {
  readonly removed?: ByBlock<number[]>
  /** Kept neurons, and the vectors that replace removed experts, by block and expert. */
  readonly kept?: ByBlock<ByBlock<number[]>> | undefined
  readonly constants?: ByBlock<ByBlock<number[]>>
  /** The factor of the kept experts. */
  readonly scale?: number
}
type Pruned = Left & { readonly logits_at: ByBlock<number[]> }
interface Recorded {
  readonly experts: { readonly uniform: readonly Pruned[]; readonly free?: readonly Pruned[]; readonly constant: readonly Pruned[] }
  readonly neurons: { readonly gated: Pruned }
  readonly experts_then_neurons: Pruned
}

/** The recording of a model with whole experts removed, with all neurons of the kept ones listed. */
const wholeExperts = (recorded: Pruned | undefined): Pruned => ({ ...(recorded as Pruned), kept: undefined })

/** The plan without the recorded experts and neurons. */
const planOf = (blocks: readonly { experts?: number | undefined }[], { removed, kept, constants, scale }: Left): Plan => ({
  blocks: blocks.map(({ experts: count }, index) => {
    if (count === undefined) return { attention: 'kept', mlp: { kept: 'all' } }
    const gone = removed?.[index] ?? []
    const experts = Array.from({ length: count }, (_, expert) => expert).filter((expert) => !gone.includes(expert))
    const keptByExpert = kept && experts.map((expert) => kept[index]?.[expert] as number[])
    return {
      attention: 'kept',
      mlp: { kept: 'all', experts, ...defined({ keptByExpert, constants: constants && gone, expertScale: scale }) },
    }
  }),
})

async function tensorsOf({ removed, constants }: Left): Promise<StoredTensors | undefined> {
  if (!constants) return undefined
  const tensors = Object.entries(constants).map(([block, own]): [string, NamedTensor] => {
    const rows = (removed?.[block] ?? []).map((expert) => own[expert] as number[])
    return [constantsName(Number(block)), { shape: [rows.length, rows[0]?.length ?? 0], values: Float32Array.from(rows.flat()) }]
  })
  return (await storeTensors({ tensors: new Map(tensors) })).tensors
}

async function check(name: MixtureModel, pruned: Pruned, format: typeof stock): Promise<Record<string, unknown>> {
  const [window] = await referenceWindows('calibration')
  const model = await openModel(await referenceModel(name))
  const home = scratchOfTest('mixtures')
  try {
    const plan = planOf(model.spec.blocks, pruned)
    const tensors = await tensorsOf(pruned)
    const view = viewWithPlan(model, plan, tensors)
    const logits = await logitsOf(view, window as Int32Array)
    view.dispose()
    for (const [position, expected] of Object.entries(pruned.logits_at)) {
      const most = Math.max(...expected.map((value, i) => Math.abs(value - (logits[Number(position)]?.[i] ?? Number.NaN))))
      expect(most, `position ${position}`).toBeLessThan(3e-4)
    }
    await format.write({ model, plan, method: 'test', folder: join(home, 'saved'), ...defined({ tensors }) })
    const saved = await openModel(join(home, 'saved'))
    const again = viewWithPlan(saved, planOf(saved.spec.blocks, {}))
    expect(isDeepStrictEqual(await logitsOf(again, window as Int32Array), logits), 'reopened').toBe(true)
    again.dispose()
    await saved.close()
    return JSON.parse(await readFile(join(home, 'saved', 'config.json'), 'utf8')) as Record<string, unknown>
  } finally {
    await model.close()
  }
}

describe('mixtures without some experts', () => {
  beforeAll(async () => setActiveBackend(await openBackend(testedBackend)))

  it.each(mixtureModels)('of %s give the recorded logits, and again when they are saved and reopened', async (name) => {
    const { experts } = await expectedOf<Recorded>(name)
    const config = await check(name, wholeExperts(experts.uniform[0]), stock)
    expect(Object.values(config)).toContain(6)
    const uneven = experts.free?.[0]
    if (uneven) await check(name, wholeExperts(uneven), exact)
  })

  it.each(mixtureModels)('of %s also without neurons of experts, and with vectors that experts became', async (name) => {
    const { experts, neurons, experts_then_neurons: both } = await expectedOf<Recorded>(name)
    const narrow = check(name, neurons.gated, stock)
    if (name.startsWith('glm4_moe')) await expect(narrow).rejects.toThrow('one width for them and the shared expert')
    else expect(Object.values(await narrow)).toContain(name === 'gpt_oss' ? 24 : 18)
    await check(name, both, exact)
    await check(name, experts.constant[0] as Pruned, exact)
    const constant = experts.constant[0] as Pruned
    await expect(check(name, constant, stock)).rejects.toThrow('some of its experts are constants')
    const taken = ['qwen3_moe', 'olmoe', 'mixtral', 'glm4_moe', 'glm4_moe-groups'].includes(name)
    if (!taken) await expect(check(name, constant, vllmExperts)).rejects.toThrow(/it is for .*Qwen3 MoE.*Choose exact\./)
    else expect((await check(name, constant, vllmExperts)).approximate_experts).toEqual(constant.removed)
  })

  it.each(['olmoe', 'gpt_oss'] as const)('of %s with experts scaled give equal logits when they are saved and reopened', async (name) => {
    const { experts } = await expectedOf<Recorded>(name)
    await check(name, { ...wholeExperts(experts.uniform[0]), logits_at: {}, scale: 0.75 }, stock)
  })

  it('keep the hub word for their number, and refuse numbers that differ by block', async () => {
    const { experts } = await expectedOf<Recorded>('qwen3_moe')
    const config = await check('qwen3_moe', wholeExperts(experts.uniform[1]), stock)
    expect(config.num_experts).toBe(4)
    expect(config).not.toHaveProperty('num_local_experts')
    await expect(check('qwen3_moe', wholeExperts(experts.free?.[0]), stock)).rejects.toThrow('Choose the format exact')
  })
})
