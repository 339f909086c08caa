import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { at } from '#contract/at.ts'
import { speedPrompt, usualRounds } from '#contract/exports/file-bench.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import { timingFiles, timingPart, writingTimed } from '#contract/runs/time/progress.ts'
import type { TimePlans } from '#engine/budgets/find-sparsity.ts'
import { makeScratchFolder } from '#engine/checkpoint/scratch-folder.ts'
import { findMix, weighsErrors } from '#engine/export/gguf/mix.ts'
import { benchFiles } from '#engine/llama/bench-files.ts'
import type { Model } from '#engine/model/model.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { ownThreads } from '#runtime/threads.ts'
import type { RunPlace } from './run-place.ts'
import { writeFile } from './stored-weights.ts'

/** Times are never shared between runs: they are valid only for the run that measured them. */
const timesStep: StepKind = { version: 1, reach: 'own' }

/**
 * Returns a function that writes plans as files in the run's weight type and times them in llama.cpp, in turns. The weights are the dense
 * model's. Each set of plans is a step.
 */
export function timePlans(place: RunPlace, budget: SpeedBudget): TimePlans {
  const { weights: type = 'F16' } = place.request
  const on = 'milliseconds' in budget ? { prompt: budget.prompt } : { written: true }
  return (plans) =>
    place.steps.step({ kind: timesStep, label: 'times of files', on: { plans, type, ...on } }, () => measure(place, plans, type, budget))
}

function measure({ model, request, steps }: RunPlace, plans: readonly Plan[], type: string, budget: SpeedBudget): Promise<number[]> {
  const step = plans.length > 2 ? 'samples' : 'result'
  const watch = {
    signal: steps.host.signal,
    progress: (done: number, total: number) => steps.progress(timingFiles[step], done, total, 'turns'),
    onFile: (done: number) => steps.progress(writingTimed[step], done, plans.length, 'files'),
  }
  return steps.time(timingPart, () => timeFiles({ model, method: request.method, type, budget }, plans, watch))
}

interface Timed {
  readonly model: Model
  readonly method: string
  readonly type: string
  readonly budget: SpeedBudget
}

/** Times files of these plans in turns. Returns milliseconds per generated token or to the first token, depending on the budget. */
export async function timeFiles(
  { model, method, type, budget }: Timed,
  plans: readonly Plan[],
  watch: { signal: AbortSignal; progress(done: number, total: number): void; onFile?(done: number): void },
): Promise<number[]> {
  const folder = await makeScratchFolder()
  // Some types cannot be written without importances. Their values do not affect the speed, so empty ones will do.
  const weights = weighsErrors(findMix(type)) ? { importances: { blocks: [], texts: [], tokens: 0 } } : {}
  try {
    const paths: string[] = []
    for (const [index, plan] of plans.entries()) {
      watch.onFile?.(index)
      paths.push((await writeFile({ model, plan, method, folder: join(folder, `${index}`), ggufTypes: [type], watch, ...weights })).path)
    }
    const prompts = ['milliseconds' in budget ? budget.prompt : speedPrompt]
    const settings = { prompts, rounds: usualRounds, threads: ownThreads(), device: 'CPU', texts: [] }
    const { files } = await benchFiles(paths, settings, watch)
    // The fastest turn counts, because other programs can only make a turn slower.
    return files.map(({ firstToken, decode }) => ('milliseconds' in budget ? 1000 * at(firstToken, 0).seconds.low : 1000 / decode.high))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
