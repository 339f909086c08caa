import { join, resolve } from 'node:path'
import { resources, sampleModelFolder } from '#runtime/resources.ts'

/** Whether a path is the bundled model, which has its own texts and questions. */
export function isSampleModel(path: string): boolean {
  return resolve(path) === sampleModelFolder
}

/** Whether `--model` refers to the bundled model. */
export function namesSample(model: string | undefined): boolean {
  return model === 'sample' || (model !== undefined && isSampleModel(model))
}

export function sampleText(use: 'calibration' | 'test' | 'questions'): string {
  return use === 'questions' ? join(resources, 'questions') : join(sampleModelFolder, `${use}.txt`)
}
