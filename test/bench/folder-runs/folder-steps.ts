import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StepStore } from '#engine/steps/step-name.ts'

/** Keeps each step as a file of JSON in a folder. A killed write leaves no step behind. */
export class StepFiles {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
    mkdirSync(folder, { recursive: true })
  }

  get(name: string): unknown {
    const file = this.#fileOf(name)
    return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
  }

  put(name: string, kept: object): void {
    const file = this.#fileOf(name)
    writeFileSync(`${file}.unfinished`, JSON.stringify({ name, ...kept }))
    renameSync(`${file}.unfinished`, file)
  }

  #fileOf(name: string): string {
    return join(this.#folder, `${createHash('sha256').update(name).digest('hex').slice(0, 32)}.json`)
  }
}

/** The steps of whole runs in a folder. */
export function folderSteps(folder: string): StepStore {
  const files = new StepFiles(folder)
  return {
    folder,
    get: async (name) => files.get(name) as Awaited<ReturnType<StepStore['get']>>,
    put: async (name, value, tensors) => files.put(name, { value, ...(tensors ? { tensors } : {}) }),
  }
}
