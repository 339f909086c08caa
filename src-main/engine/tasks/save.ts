import { join } from 'node:path'
import type { SavedFile } from '#contract/exports/exports.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readText } from '#engine/checkpoint/regular-file.ts'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { type ReadData, readData } from '#engine/data/read-data.ts'
import { beginTokenOf } from '#engine/evaluation/begin-token.ts'
import { weighingText } from '#engine/export/gguf/importances.ts'
import { findMix, weighsErrors } from '#engine/export/gguf/mix.ts'
import { saveModel } from '#engine/export/save.ts'
import { acquireModel, openModelTokenizer, releaseModel } from '#engine/model/kept-model.ts'
import type { Model } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { resources } from '#runtime/resources.ts'
import { requireOwnModel } from './own-model.ts'
import type { RunHost } from './run/run-steps.ts'

interface SaveTaskHost extends Omit<RunHost, 'emit'> {
  emit(event: unknown): void
}

type SaveTask = Omit<Extract<ComputeTask, { kind: 'save' }>, 'kind'>

/** Saves a run's result in the requested formats. */
export async function executeSave(task: SaveTask, host: SaveTaskHost): Promise<SavedFile[]> {
  const { model: path, plan, run, memoryBytes, fingerprint, calibration, seed, localFolder, begins, ...asked } = task
  await requireOwnModel(path, [fingerprint], host)
  await openBackend('auto')
  const model = await acquireModel(path, memoryBytes)
  try {
    const measuredOn = await readCalibration(model, task, host)
    const request = {
      ...asked,
      ...(run ? { run } : {}),
      ...(plan?.tensors ? { tensors: await StoredTensors.open(plan.tensors) } : {}),
      ...(measuredOn ? { measuredOn } : {}),
      model,
      plan: plan ?? densePlan(model.spec),
      text: await readText(join(resources, 'sample-model', 'test.txt')),
    }
    return await saveModel(request, {
      signal: host.signal,
      progress: (phase, done, total, unit) => host.emit({ phase, done, total, unit }),
    })
  } finally {
    // An export's claim of memory ends with it, also if it failed.
    await releaseModel()
  }
}

/** Windows of the run's own text, or of the bundled text, if a weight type weights errors by importances. */
async function readCalibration(model: Model, task: SaveTask, { fetchFile, signal }: SaveTaskHost): Promise<ReadData | undefined> {
  const { formats, ggufTypes, calibration, seed, localFolder, begins } = task
  if (!formats.includes('gguf') || !ggufTypes.some((type) => weighsErrors(findMix(type)))) return undefined
  const data = weighingText(calibration, model.spec.contextLength)
  const tokenizer = await openModelTokenizer(model)
  const begin = begins ? beginTokenOf({ spec: model.spec, tokenizer })?.id : undefined
  return readData(model, tokenizer, data, seed, { localFolder, fetchFile, begin, report: { signal, progress: () => undefined } })
}
