/** Writes pruned models in every format and opens each with the tools for that format: `npm run interop`. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '#engine/backend/backend.ts'
import { checkBlocks } from './blocks.ts'
import { fits, methods, models } from './cases.ts'
import { findTools, Worker } from './environment.ts'
import { checkHarness } from './harness.ts'
import { Llama } from './llama.ts'
import { checkPruned } from './pruned.ts'
import { Table } from './table.ts'
import { checkTrimmed } from './trimmed.ts'

const { values: flags } = parseArgs({ options: { only: { type: 'string' }, keep: { type: 'boolean', default: false } } })

const tools = await findTools()
const folder = await mkdtemp(join(tmpdir(), 'espalier-interop-'))
const table = new Table()
const transformers = new Worker(tools, 'stock_transformers.py')
const llama = new Llama()
try {
  await openBackend('tensorflow')
  await checkBlocks(tools, folder, table)
  if ('lm-evaluation-harness'.includes(flags.only ?? '')) await checkHarness(tools, folder, table)
  await checkTrimmed({ transformers, llama }, folder, table, flags.only)
  for (const model of models.filter(({ name }) => name.includes(flags.only ?? ''))) {
    for (const method of methods.filter((one) => fits(model, one))) {
      const place = join(folder, `${model.name}-${method.method}-${method.recovers ?? ''}`.replace(/\W+/g, '-'))
      await checkPruned({ transformers, llama, model, method, folder: place }, table)
      if (!flags.keep) for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true })
    }
  }
} finally {
  transformers.end()
  llama.end()
  if (!flags.keep) await rm(folder, { recursive: true, force: true })
}
table.end()
process.exit(table.failed > 0 ? 1 : 0)
