import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readSync, rmSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { ClusterProfile } from '#contract/clusters.ts'
import { EspalierError } from '#contract/errors.ts'
import { placesIn } from '#contract/places.ts'
import type { TensorFile } from '#contract/plan.ts'
import type { RunFile } from '#contract/run-file.ts'
import { type RunRequest, runRequest } from '#contract/run-request.ts'
import { version } from '#contract/version.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs.ts'
import { requestOf } from '../run-attempt.ts'
import { stepScope } from '../run-recorder.ts'
import { hashOf, type RunFolder, runFolderOf, writeStep, writeWhole } from './run-folder.ts'
import { placeFile } from './shared-steps.ts'

/** The files of runs that this machine shares with a cluster. */
export interface ClusterFiles {
  runFolder(run: string): RunFolder
  /** Writes a run's request and the steps that the history knows. A `fresh` run leaves nothing behind of an earlier one. */
  write(row: RunRow, fresh: boolean): Promise<void>
  /** Brings what was written to where the nodes read it. */
  push(): Promise<void>
  /** Brings what nodes wrote to where `runFolder` is. */
  pull(): Promise<void>
  /** A file of tensors that a node names, at its place here. */
  placed(file: TensorFile): TensorFile
  /** The end of what the batch job of a task printed. */
  logOf(task: string): string
  /** Removes the files of a run that the history has taken in. */
  forget(run: string): void
}

/**
 * A folder that this machine and the nodes see under one path.
 * @param host where Slurm's commands are; a folder that is there, but not here, must not be made here
 */
export function sharedFiles(history: History, { folder, host }: Pick<ClusterProfile, 'folder' | 'host'>): ClusterFiles {
  if (host !== '') requireHere(folder, host)
  mkdirSync(join(folder, 'logs'), { recursive: true })
  return {
    runFolder: (run) => runFolderOf(folder, run),
    async write(row, fresh) {
      writeRun(history, row, runFolderOf(folder, row.id), fresh, absolutePlaces(requestOf(history, row)))
    },
    async push() {},
    async pull() {},
    placed: (file) => file,
    logOf: (task) => endOf(join(folder, 'logs', `${task}.txt`)),
    forget: (run) => rmSync(runFolderOf(folder, run).root, { recursive: true, force: true }),
  }
}

/** Throws `not-found` where this machine does not see the folder of a cluster behind ssh. */
export function requireHere(folder: string, host: string): void {
  if (existsSync(folder)) return
  throw new EspalierError(
    'not-found',
    `${folder} is not on this machine. Mount the folder of ${host} here under the same path, or start \`espalier serve\` on ${host} and attach this window to it.`,
  )
}

function writeRun(history: History, row: RunRow, folder: RunFolder, fresh: boolean, request: RunRequest): void {
  if (fresh) rmSync(folder.root, { recursive: true, force: true })
  rmSync(folder.result, { force: true })
  for (const one of [folder.steps, folder.tensors, folder.attempts]) mkdirSync(one, { recursive: true })
  for (const scope of new Set([row.id, stepScope(row, 'shared:')])) {
    for (const name of history.steps.names(scope)) {
      const file = join(folder.steps, `${hashOf(name)}.json`)
      const step = existsSync(file) ? undefined : history.steps.get(scope, name)
      if (!step) continue
      if (step.tensors) placeFile(step.tensors.file, join(folder.tensors, basename(step.tensors.file)))
      writeStep(file, { name, value: step.value, ...(step.tensors ? { tensors: step.tensors } : {}) })
    }
  }
  const file: RunFile = { format: 'espalier run request', formatVersion: 1, run: row.id, request, version }
  writeWhole(folder.request, JSON.stringify(file))
}

/** A node has another working folder: texts that are named by a path from ours get their whole path. */
function absolutePlaces(request: RunRequest): RunRequest {
  const settled = structuredClone(request)
  for (const { path, replace } of placesIn(runRequest, settled)) if (path !== '' && existsSync(path)) replace(resolve(path))
  return { ...settled, model: resolve(settled.model) }
}

function endOf(file: string): string {
  try {
    const handle = openSync(file, 'r')
    try {
      const { size } = fstatSync(handle)
      const buffer = Buffer.alloc(Math.min(size, 2000))
      return buffer.toString('utf8', 0, readSync(handle, buffer, 0, buffer.length, size - buffer.length))
    } finally {
      closeSync(handle)
    }
  } catch {
    return ''
  }
}
