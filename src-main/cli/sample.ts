import { join, resolve } from 'node:path'
import { resources, sampleModelFolder } from '#runtime/resources.ts'

/** Whether a model path is the bundled model, which brings texts and questions of its own. */
export function isSampleModel(path: string): boolean {
  return resolve(path) === sampleModelFolder
}

/** Whether `--model` means the bundled model. */
export function namesSample(model: string | undefined): boolean {
  return model === 'sample' || (model !== undefined && isSampleModel(model))
}

export function sampleText(use: 'calibration' | 'test' | 'questions'): string {
  return use === 'questions' ? join(resources, 'questions') : join(sampleModelFolder, `${use}.txt`)
}
