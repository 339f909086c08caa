import { join, resolve } from 'node:path'

const resources = resolve(import.meta.dirname, '../../resources')

/** The folder of the bundled model. */
export const sampleModel = join(resources, 'sample-model')

/** Whether a model path is the bundled model, which brings texts and questions of its own. */
export function isSampleModel(path: string): boolean {
  return resolve(path) === sampleModel
}

export function sampleText(use: 'calibration' | 'test' | 'questions'): string {
  return use === 'questions' ? join(resources, 'questions') : join(sampleModel, `${use}.txt`)
}
