/** Opens pruned models in vLLM on the processor: `npm run interop -- vllm`. It installs vLLM (3 GB) in the cache folder. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openBackend } from '#engine/backend/backend.ts'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { openView } from '#engine/model/views/view.ts'
import { writeSeededModel } from '../fixtures/seeded-model.ts'
import { exactBounds, type InteropMethod, type InteropModel, models } from './cases.ts'
import { askPython, findTools } from './environment.ts'
import { type Answer, answers, compare, prune, questionOf, refusalOf } from './pruned.ts'
import { Table } from './table.ts'

/** Formats that vLLM opens, and which of them need the code in the folder. */
const formats = { stock: { trust: false }, 'nemotron-nas': { trust: true } } as const

const methods: readonly InteropMethod[] = [
  { method: '2ssp', amount: { sparsity: 0.375 }, options: { windows: 4 } },
  { method: 'blockpruner_submodule', amount: { sparsity: 0.25 }, options: { windows: 4 } },
]

const folder = await mkdtemp(join(tmpdir(), 'espalier-vllm-'))
// Attention on a processor needs heads of 32 or more, which the reference models lack.
const phi3: InteropModel = {
  name: 'phi3 (seeded)',
  folder: () =>
    writeSeededModel(join(folder, 'phi3'), { type: 'phi3', hidden: 256, intermediate: 384, heads: 4, keyValueHeads: 2, blocks: 4 }),
  length: 160,
}
const sample = models.filter(({ name }) => name.startsWith('sample model'))
const table = new Table()
try {
  const found = await findTools('requirements-vllm.txt')
  const tools = { ...found, environment: { ...found.environment, VLLM_ENABLE_V1_MULTIPROCESSING: '0', VLLM_CPU_KVCACHE_SPACE: '1' } }
  await openBackend('tensorflow')
  for (const interop of [...sample, phi3]) {
    const path = await interop.folder()
    const model = await openModel(path)
    for (const method of methods) {
      table.title(`${interop.name}, ${method.method}`)
      const { plan } = await prune(path, method, folder)
      const view = await openView(model, plan)
      const expected = { ...(await answers(view, path, interop)), ids: undefined }
      view.dispose()
      const tensors = plan?.tensors && { tensors: await StoredTensors.open(plan.tensors) }
      for (const [format, { trust }] of Object.entries(formats)) {
        const target = join(folder, `${method.method}-${format}`)
        await rm(target, { recursive: true, force: true })
        const refusal = await refusalOf(() => findFormat(format).write({ model, plan, method: method.method, ...tensors, folder: target }))
        if (refusal) {
          table.note(`${format} in vLLM`, refusal)
          continue
        }
        const job = { ...questionOf(expected, interop), folder: target, trust, length: interop.length + 1 }
        const answer = await askPython<Answer>(tools, 'answers_of_vllm.py', [], job, folder)
        compare(`${format} in vLLM`, answer, expected, { bounds: exactBounds, sameKind: true }, table)
      }
    }
    await model.close()
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
table.end()
process.exit(table.failed > 0 ? 1 : 0)
