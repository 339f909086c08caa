/**
 * One model in one memory budget, in its own process: prunes it, repairs it and takes a perplexity. Writes what each took as soon as it is
 * known.
 */
import { createHash } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { argv } from 'node:process'
import { EspalierError } from '#contract/errors.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { FolderRun } from './folder-run.ts'
import { addSpent, type Spent, spentSince, spentSoFar } from './spent.ts'

export interface ScaleCase {
  readonly path: string
  readonly memoryBytes: number
  /** Where steps are kept, so that a killed case resumes. */
  readonly folder: string
  readonly resultFile: string
  readonly windowsFile: string
  readonly sparsity: number
}

export interface ScaleResult {
  readonly residency: string
  /** By the names that these parts have in the seconds of a run. */
  readonly spent: Readonly<Partial<Record<'pruning' | 'repair' | 'perplexity', Spent>>>
  /** Why the model could not be repaired in this budget. Its perplexity is then that without repair. */
  readonly problem?: string
  /** How many projections the repair improved. Few windows of random tokens are often too few for any. */
  readonly replaced?: string
  /** When all is done: of the plan, its tensors and the repair's errors, and the perplexity. */
  readonly hash?: string
  readonly perplexity?: number
}

if (argv[2]) await runCase(JSON.parse(argv[2]) as ScaleCase)

async function runCase({ path, memoryBytes, folder, resultFile, windowsFile, sparsity }: ScaleCase): Promise<void> {
  const backend = await openBackend()
  const windows = (JSON.parse(readFileSync(windowsFile, 'utf8')) as number[][]).map((ids) => Int32Array.from(ids))
  const model = await openModel(path, memoryBytes)
  const view = denseView(model)
  // Weights are seeded, and the folder's name has their shape.
  const base = { model: basename(path), backend: backend.name, precision: 'float32' }
  let result: ScaleResult = { residency: model.store.residency, spent: {} }
  const keep = (more: Partial<ScaleResult>) => {
    result = { ...result, ...more }
    writeFileSync(`${resultFile}.unfinished`, JSON.stringify(result))
    renameSync(`${resultFile}.unfinished`, resultFile)
  }
  const timed = async <T>(part: keyof ScaleResult['spent'], compute: (run: FolderRun) => Promise<T>): Promise<T> => {
    const [run, start] = [new FolderRun(folder, base, 0), spentSoFar()]
    const value = await compute(run)
    keep({ spent: { ...result.spent, [part]: addSpent(spentSince(start), run.found) } })
    return value
  }
  const options = twoStage.options.parse({ windows: windows.length })
  const budget = budgetFor(model.spec, { sparsity })
  const { plan } = await timed('pruning', (run) => twoStage.plan({ view, calibration: windows, budget, options, run }))
  const repaired = await timed('repair', (run) => repairPlan({ view, plan, windows, kind: 'in-order', run })).catch((thrown: unknown) => {
    if (!(thrown instanceof EspalierError && thrown.code === 'out-of-memory')) throw thrown
    keep({ problem: thrown.message })
    return { plan, tensors: undefined, projections: [] }
  })
  const files = (repaired.tensors?.files ?? []).map(({ sha256 }) => ({ sha256 }))
  const chosen = JSON.stringify([plan, files])
  const judged = await timed('perplexity', (run) =>
    run.step({ kind: { version: 1 }, label: 'perplexity', on: { windows, chosen } }, async () => {
      const own = viewWithPlan(model, repaired.plan, repaired.tensors)
      return perplexity(own, windows).finally(() => own.dispose())
    }),
  )
  const { projections } = repaired
  const hash = createHash('sha256')
    .update(JSON.stringify([chosen, projections]))
    .digest('hex')
  const replaced = `${projections.filter(({ before, after }) => after < before).length} of ${projections.length}`
  keep({ perplexity: judged.perplexity, replaced, hash })
  await model.close()
}
