import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const sample = join(import.meta.dirname, '../../../resources/sample-model')
const home = scratchFolder('bytes')
beforeAll(async () => {
  await openBackend('tensorflow')
})

it.each([
  ['gguf', 'F16'],
  ['gguf', 'Q8_0'],
  ['gguf', 'Q4_K_M'],
  ['exact', ''],
  ['stock', ''],
])('%s %s foresees the bytes of its weight files', async (format, type) => {
  const model = await openModel(sample)
  try {
    const dense = densePlan(model.spec)
    // Uneven widths, the second of which needs padding, and no attention in the first block.
    const plan: Plan = {
      blocks: dense.blocks.map((block, index) => ({
        attention: index === 0 ? 'removed' : block.attention,
        mlp: index < 2 ? { kept: Array.from({ length: 96 - 7 * index }, (_, neuron) => neuron) } : block.mlp,
      })),
    }
    const described = { model, plan, method: '2ssp' }
    const folder = join(home, `${format}-${type}`)
    const foreseen = await findFormat(format).fileBytes(described, type)
    await findFormat(format).write({ ...described, folder, ...(type ? { ggufTypes: [type] } : {}) })
    const weights = (await readdir(folder)).filter((name) => /\.(gguf|safetensors)$/.test(name))
    const sizes = await Promise.all(weights.map(async (name) => (await stat(join(folder, name))).size))
    expect(foreseen).toBe(sizes.reduce((sum, size) => sum + size, 0))
  } finally {
    await model.close()
  }
})
