import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { resources, sampleModelFolder } from '#runtime/resources.ts'
import { changedAt } from '#services/models/library-files.ts'
import { downloadModel, isHubName } from './commands/output/follow-transfer.ts'
import type { CommandDoor } from './commands/with-workbench.ts'
import type { Flags } from './flags/flags.ts'

/** Returns the library entry of the model that `--model` names. Adds the model if the library does not have it. */
export async function locateModel(door: CommandDoor, { model = '', revision }: Partial<Flags>): Promise<ModelEntry> {
  const path = model === 'sample' ? sampleModelFolder : resolve(model)
  const entry = model !== '' && existsSync(path) ? await entryAt(door, path) : await fetchModel(door, model, revision)
  // If its files changed after the model was added, the stored description is out of date.
  const stale = (await changedAt(entry.path)) > entry.createdAt
  return stale ? { ...entry, description: await door.call('models.check', { path: entry.path }) } : entry
}

async function entryAt({ call }: CommandDoor, path: string): Promise<ModelEntry> {
  const known = (await call('models.list', {})).find((entry) => entry.path === path)
  return known ?? call('models.add', { path, mode: 'link' })
}

async function fetchModel(door: CommandDoor, name: string, revision: string | undefined): Promise<ModelEntry> {
  if (!isHubName(name))
    throw new EspalierError(
      'not-found',
      `${name} does not exist. Give a folder, a name on the hub such as org/name, or "sample" for the bundled model.`,
    )
  return downloadModel(door, name, revision)
}

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
