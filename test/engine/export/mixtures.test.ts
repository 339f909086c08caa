import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { stock } from '#engine/export/stock.ts'
import { openModel } from '#engine/model/model.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { expectedOf, type MixtureModel, mixtureModels, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { logitsOf } from '../model/logits.ts'

interface Pruned {
  readonly removed: Record<string, number[]>
  readonly logits_at: Record<string, number[]>
}
interface Recorded {
  readonly experts: { readonly uniform: readonly Pruned[]; readonly free?: readonly (Pruned & { score: string })[] }
}

/** The plan without the recorded experts. */
const planOf = (blocks: readonly { experts?: number | undefined }[], removed: Record<string, number[]>): Plan => ({
  blocks: blocks.map(({ experts }, index) => {
    const kept = Array.from({ length: experts ?? 0 }, (_, expert) => expert).filter((expert) => !removed[index]?.includes(expert))
    return { attention: 'kept', mlp: { kept: 'all', ...(experts === undefined ? {} : { experts: kept }) } }
  }),
})

async function check(name: MixtureModel, { removed, logits_at }: Pruned, format: typeof stock): Promise<Record<string, unknown>> {
  const [window] = await referenceWindows('calibration')
  const model = await openModel(await referenceModel(name))
  const home = await mkdtemp(join(tmpdir(), 'espalier-mixtures-'))
  try {
    const plan = planOf(model.spec.blocks, removed)
    const view = viewWithPlan(model, plan)
    const logits = await logitsOf(view, window as Int32Array)
    view.dispose()
    for (const [position, expected] of Object.entries(logits_at)) {
      const most = Math.max(...expected.map((value, i) => Math.abs(value - (logits[Number(position)]?.[i] ?? Number.NaN))))
      expect(most, `position ${position}`).toBeLessThan(3e-4)
    }
    await format.write({ model, plan, method: 'test', folder: join(home, 'saved') })
    const saved = await openModel(join(home, 'saved'))
    const again = viewWithPlan(saved, planOf(saved.spec.blocks, {}))
    expect(await logitsOf(again, window as Int32Array)).toEqual(logits)
    again.dispose()
    await saved.close()
    return JSON.parse(await readFile(join(home, 'saved', 'config.json'), 'utf8')) as Record<string, unknown>
  } finally {
    await model.close()
    await rm(home, { recursive: true, force: true })
  }
}

describe('mixtures without some experts', () => {
  beforeAll(async () => setActiveBackend(await openBackend('tensorflow')))

  it.each(mixtureModels)('of %s give the recorded logits, and again when they are saved and reopened', async (name) => {
    const { experts } = await expectedOf<Recorded>(name)
    const config = await check(name, experts.uniform[0] as Pruned, stock)
    expect(Object.values(config)).toContain(6)
    const uneven = experts.free?.[0]
    if (uneven) await check(name, uneven, exact)
  })

  it('keep the hub word for their number, and refuse numbers that differ by block', async () => {
    const { experts } = await expectedOf<Recorded>('qwen3_moe')
    const config = await check('qwen3_moe', experts.uniform[1] as Pruned, stock)
    expect(config.num_experts).toBe(4)
    expect(config).not.toHaveProperty('num_local_experts')
    await expect(check('qwen3_moe', experts.free?.[0] as Pruned, stock)).rejects.toThrow('Choose the format exact')
  })
})
