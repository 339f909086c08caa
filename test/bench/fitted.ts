/**
 * What fitted widths take beside 2SSP, both at 50 % with their default options, in turns and each from nothing:
 *
 *   npm run bench -- fitted MODEL TEXT [TOKENS [PRECISION]]
 *
 * TOKENS is the length of a window (2048), PRECISION `mixed` unless given. Prints seconds and processor seconds of every phase.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { argv } from 'node:process'
import type { Precision } from '#contract/pruning/precision.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readWindows } from '#engine/data/windows.ts'
import { openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { baseOf, FolderRun } from './folder-runs/folder-run.ts'
import { type Spent, spentSince, spentSoFar } from './folder-runs/spent.ts'

const [modelPath = '', textPath = '', tokens = '2048', precision = 'mixed'] = argv.slice(2)
const sparsity = 0.5

/** A run that prints what each of its phases took. */
class TimedRun extends FolderRun {
  #phase = ''
  #since: Spent = spentSoFar()

  override progress(phase = ''): void {
    if (phase === this.#phase) return
    if (this.#phase !== '') console.log(`  ${this.#phase}: ${shown(spentSince(this.#since))}`)
    this.#phase = phase
    this.#since = spentSoFar()
  }
}

const shown = ({ seconds, processorSeconds }: Spent) => `${seconds.toFixed(1)} s, ${processorSeconds.toFixed(1)} s of the processor`

await openBackend()
const model = withProducts(await openModel(modelPath), productsFor(precision as Precision))
const tokenizer = await openTokenizer(modelPath)
const base = await baseOf(model, precision as Precision)
for (const turn of [1, 2]) {
  const taken: number[] = []
  for (const id of ['2ssp', '2ssp_fit']) {
    const method = findMethod(id)
    const options = method.options.parse({})
    const calibration = (
      await readWindows(textPath, tokenizer, { sequenceLength: Number(tokens), maxWindows: method.windows(options), seed: 0 })
    ).windows
    const folder = mkdtempSync(join(tmpdir(), 'espalier-fitted-'))
    const run = new TimedRun(folder, base, 0)
    const start = spentSoFar()
    await method.plan({ view: denseView(model), calibration, budget: budgetFor(model.spec, { sparsity }), options, run })
    run.progress()
    const spent = spentSince(start)
    taken.push(spent.seconds)
    console.log(`${method.title}, turn ${turn}: ${shown(spent)}`)
    rmSync(folder, { recursive: true, force: true })
  }
  const [plain = 1, fitted = 1] = taken
  console.log(`2SSP, fitted, takes ${(fitted / plain).toFixed(2)} times as long as 2SSP.`)
}
await model.close()
