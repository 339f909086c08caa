import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { FileBudget, RunRequest } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { fileCost } from '#engine/budgets/find-sparsity.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { checkRequests } from '#engine/tasks/check-request.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { hostIn } from '../../fixtures/run-host.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('budgets')
beforeAll(() => openBackend('tensorflow'))

const few = { '2ssp': { windows: 2 }, shortgpt: { windows: 2 } }
const request = (method: keyof typeof few, amount: FileBudget, changes: Partial<RunRequest> = {}): RunRequest => ({
  model: sampleModelFolder,
  method,
  amount,
  options: few[method],
  seed: 0,
  calibration: { source: join(sampleModelFolder, 'calibration.txt'), sequenceLength: 64, windows: 10 },
  measures: [],
  backend: 'tensorflow',
  ...changes,
})

/** Steps already done: scores do not depend on the budget. */
const known = new Map<string, StepResult>()

const run = (asked: RunRequest) => executeRun(asked, hostIn(folder, known))

/** The file size at a share of the way from the smallest file to the dense one. */
async function budgetAt(share: number, method: keyof typeof few, { format, type = 'F16' }: Omit<FileBudget, 'bytes'>): Promise<FileBudget> {
  const [preview] = await checkRequests([request(method, { bytes: 1, format, type })])
  const { least, most } = preview?.fileRange ?? { least: 0, most: 0 }
  return { bytes: Math.round(least + share * (most - least)), format, type }
}

/** Bytes of the weight files that a save of the run's plan writes. */
async function writtenBytes(asked: RunRequest, plan: Awaited<ReturnType<typeof run>>['plan'], { format, type }: FileBudget) {
  const model = await openModel(sampleModelFolder)
  const target = join(folder, `${asked.method}-${format}-${type}`)
  const { tensors: _, ...bare } = plan
  await findFormat(format).write({ model, plan: bare, method: asked.method, folder: target, ...(type ? { ggufTypes: [type] } : {}) })
  await model.close()
  const names = (await readdir(target)).filter((name) => /\.(gguf|safetensors)$/.test(name))
  return (await Promise.all(names.map(async (name) => (await stat(join(target, name))).size))).reduce((sum, size) => sum + size, 0)
}

describe('a file size', () => {
  test.each([
    { share: 0.1, format: 'exact' },
    { share: 0.35, format: 'gguf', type: 'F16' },
    { share: 0.35, format: 'gguf', type: 'Q8_0' },
    { share: 0.75, format: 'gguf', type: 'Q4_K_M' },
  ] as const)('2SSP widens some blocks to come within 1 % of the budget: $format $type', async ({ share, ...kind }) => {
    const budget = await budgetAt(share, '2ssp', kind)
    const asked = request('2ssp', budget)
    const { plan, budget: met, sparsity } = await run(asked)
    expect(met?.real).toBe(await writtenBytes(asked, plan, budget))
    expect(met?.real).toBeLessThanOrEqual(budget.bytes)
    expect(met?.real).toBeGreaterThan(0.99 * budget.bytes)
    expect(sparsity.nominal).toBeGreaterThan(0)
  })

  test('2SSP keeps a block’s best neurons, equally many in every block, where every block is as wide as the widest', async () => {
    const { plan } = await run(request('2ssp', await budgetAt(0.5, '2ssp', { format: 'stock' })))
    const widths = plan.blocks.map(({ mlp }) => mlp !== 'removed' && mlp.kept.length)
    expect(new Set(widths).size).toBe(1)
  })

  test('ShortGPT takes whole blocks: the next fewer would be too large', async () => {
    const budget = await budgetAt(0.5, 'shortgpt', { format: 'gguf', type: 'F16' })
    const { plan, budget: met } = await run(request('shortgpt', budget))
    const removed = plan.blocks.filter(({ attention }) => attention === 'removed').length
    const model = await openModel(sampleModelFolder)
    const fewer = densePlan(model.spec)
    fewer.blocks.splice(
      0,
      removed - 1,
      ...Array.from({ length: removed - 1 }, () => ({ attention: 'removed' as const, mlp: 'removed' as const })),
    )
    const next = await fileCost(model, 'shortgpt', budget).of(fewer)
    await model.close()
    expect(met?.real).toBeLessThanOrEqual(budget.bytes)
    expect(next).toBeGreaterThan(budget.bytes)
  })
})

test('budgets out of reach are refused before any work, with the range', async () => {
  const tooSmall = request('2ssp', { bytes: 1000, format: 'gguf', type: 'Q8_0' })
  const tooLarge = request('2ssp', { bytes: 1e9, format: 'gguf', type: 'Q8_0' })
  const [small, large] = await checkRequests([tooSmall, tooLarge])
  expect(small?.problems).toMatchObject([
    { code: 'infeasible', field: 'amount', message: expect.stringMatching(/its files have [\d.]+ [kM]B to [\d.]+ MB/) },
  ])
  expect(large?.problems).toMatchObject([{ code: 'infeasible', field: 'amount', message: expect.stringMatching(/already meets 1 GB/) }])
  expect(small?.fileRange?.least).toBeGreaterThan(5e5)
  expect(small?.work).toBeNull()
  await expect(run(tooSmall)).rejects.toThrow(/Choose a budget in that range/)
})
