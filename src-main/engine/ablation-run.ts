import { EspalierError } from '#contract/errors.ts'
import type { DataRequest, RunRequest } from '#contract/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { acquireModel, openModelTokenizer } from '#engine/model/kept-model.ts'
import { denseView } from '#engine/model/view.ts'
import type { AblationResult } from '#engine/pruning/ablations/ablation.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { readData } from './run-data.ts'
import { type RunHost, RunSteps } from './run-steps.ts'

/** Everything that determines one ablation: what a run is asked, with the study's name and options, and the text measured on. */
export interface AblationRequest extends Pick<RunRequest, 'model' | 'backend' | 'memoryBytes' | 'localFolder' | 'seed'> {
  readonly ablation: string
  readonly options: Record<string, unknown>
  readonly calibration: DataRequest
  readonly evaluation: { readonly name: string; readonly data: DataRequest }
}

/** Runs an ablation to its table and plot; finished steps are taken from the host. */
export async function executeAblation(request: AblationRequest, host: RunHost): Promise<AblationResult> {
  const ablation = findAblation(request.ablation)
  const options = ablation.options.strict().safeParse(request.options)
  if (!options.success) {
    const problems = options.error.issues.map((issue) => `${issue.path.join('.') || 'options'}: ${issue.message}`)
    throw new EspalierError('usage', `The options of the ablation ${request.ablation} are wrong: ${problems.join('; ')}.`)
  }
  await openBackend(request.backend)
  const model = await acquireModel(request.model, request.memoryBytes)
  const tokenizer = await openModelTokenizer(model)
  const sources = { localFolder: request.localFolder, fetchFile: host.fetchFile }
  const windows = async (data: DataRequest, seed: number) => (await readData(model, tokenizer, data, seed, sources)).windows
  const run = new RunSteps(host).methodRun(request.seed, JSON.stringify([request.model, request.calibration]))
  return ablation.study({
    view: denseView(model),
    options: options.data,
    evaluation: { name: request.evaluation.name, windows: await windows(request.evaluation.data, 0) },
    calibration: (count, seed) => windows({ ...request.calibration, windows: Math.min(count, request.calibration.windows ?? count) }, seed),
    run,
  })
}
