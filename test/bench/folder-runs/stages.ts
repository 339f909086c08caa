import type { Plan } from '#contract/pruning/plan.ts'
import { defaultRecoveryData, type RecoveryAmount } from '#contract/pruning/recovery.ts'
import { denseMethod } from '#contract/titles.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { Model } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { isTrained, readHeldOut } from '#engine/pruning/recovery/held-out.ts'
import { type Recovered, recoverPlan } from '#engine/pruning/recovery/recover.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import type { Repaired } from '#engine/pruning/repair/repair.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import type { FolderRun } from './folder-run.ts'
import { readTests, readText, windowTokens } from './repair-texts.ts'

/** The default is 117 on 30 blocks, which takes half an hour. */
const fewGenerations = { generations: 10 }

interface Pruning {
  readonly method: string
  readonly sparsity: number
  readonly seed: number
  /** Whether half of the calibration text is the bundled mixed one, as in a recovery. */
  readonly mixed?: boolean
}

export async function prune(
  model: Model,
  calibrationPath: string,
  { method: id, sparsity, seed, mixed }: Pruning,
  run: FolderRun,
): Promise<Plan> {
  if (id === denseMethod) return densePlan(model.spec)
  const method = findMethod(id)
  const options = method.options.parse(id === 'evopress_submodule' ? fewGenerations : {})
  const windows = method.windows(options)
  const both = { ...defaultRecoveryData({ source: calibrationPath, sequenceLength: windowTokens(model) }), windows }
  const calibration = mixed
    ? (await readData(model, await openTokenizer(model.path), both, seed, {})).windows
    : await readText(model, calibrationPath, windows, seed)
  const budget = budgetFor(model.spec, { sparsity })
  return (await method.plan({ view: denseView(model), calibration, budget, options, run })).plan
}

interface Texts {
  readonly calibrationPath: string
  readonly testPath: string
  readonly seed: number
}

/** As in a run: a recovery trains on half of the calibration text, and is judged on kinds of text that it does not train on. */
export async function recover(
  model: Model,
  { calibrationPath, testPath, seed }: Texts,
  amount: RecoveryAmount,
  repaired: Pick<Repaired, 'plan' | 'tensors'>,
  used: Windows,
  run: FolderRun,
): Promise<Recovered> {
  const text = defaultRecoveryData({ source: calibrationPath, sequenceLength: windowTokens(model) })
  const tokenizer = await openTokenizer(model.path)
  return recoverPlan({
    view: denseView(model),
    plan: { ...repaired.plan, tensors: [...(repaired.tensors?.files ?? [])] },
    tensors: repaired.tensors,
    run,
    request: { amount, text },
    read: (windows, choose) => readData(model, tokenizer, { ...text, windows }, seed, { accepts: isTrained, choose }),
    heldOut: await readHeldOut(text, (data, from, accepts) => readData(model, tokenizer, data, from, accepts ? { accepts } : {})),
    apart: [...used, ...(await readTests(model, testPath))],
  })
}
