import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { ClusterProfile } from '#contract/clusters/clusters.ts'
import type { RunFile } from '#contract/clusters/run-file.ts'
import { EspalierError } from '#contract/errors.ts'
import { type NamedPlace, placesIn } from '#contract/places.ts'
import { type RunRequest, runRequest } from '#contract/runs/run-request.ts'
import { reachOfStep } from '#contract/runs/step-names.ts'
import { version } from '#contract/version.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import { requestOf } from '../run-attempt.ts'
import { hashOf, type RunFolder, readNodeFile, runFolderOf, writeStep } from './run-folder.ts'
import { placeFile } from './shared-steps.ts'

/** A run with its cluster task, `12_3`, if it has one. */
export interface TaskOfRun {
  run: string
  task: string | null
}

/** The files of runs that this machine shares with a cluster. */
export interface ClusterFiles {
  runFolder(run: string): RunFolder
  /** Writes a run's request and its known steps. If `fresh`, first removes everything that an earlier start left. */
  write(row: RunRow, fresh: boolean): Promise<void>
  /** Makes files written for runs available to the nodes. */
  push(runs: readonly string[]): Promise<void>
  /** Fetches what nodes and their batch jobs wrote. */
  pull(runs: readonly TaskOfRun[]): Promise<void>
  /** Translates a path from a node's output to this machine. */
  placed(run: string, path: string): string
  /** Returns the end of the output of a task's batch job. */
  logOf(task: string): string
  /** Removes the files of a run that is fully in the history. */
  forget(run: string): void
}

/**
 * Opens a folder that this machine and the nodes see under the same path.
 * @param host where Slurm's commands run; a folder that exists there but not here must not be created here
 */
export function sharedFiles(history: History, { folder, host }: Pick<ClusterProfile, 'folder' | 'host'>): ClusterFiles {
  if (host !== '') requireHere(folder, host)
  mkdirSync(join(folder, 'logs'), { recursive: true })
  return {
    runFolder: (run) => runFolderOf(folder, run),
    async write(row, fresh) {
      const request = requestOf(history, row)
      // A node has another working folder, so relative paths become absolute.
      for (const { path, replace } of localPlaces(request)) replace(resolve(path))
      writeRun(history, row, runFolderOf(folder, row.id), { ...request, model: resolve(request.model) }, fresh)
    },
    async push() {},
    async pull() {},
    placed: (_, path) => path,
    logOf: (task) => endOf(logFile(folder, task)),
    forget: (run) => rmSync(runFolderOf(folder, run).root, { recursive: true, force: true }),
  }
}

/** Throws `not-found` if this machine does not see the folder of a cluster behind ssh. */
export function requireHere(folder: string, host: string): void {
  if (existsSync(folder)) return
  throw new EspalierError(
    'not-found',
    `${folder} is not on this machine. Mount the folder of ${host} here under the same path, let the profile copy files over ssh, or start \`espalier serve\` on ${host} and attach this window to it.`,
  )
}

/** Where a task's batch job writes its output. */
export const logFile = (folder: string, task: string): string => join(folder, 'logs', `${task}.txt`)

/** Writes a run's request and its known steps to its folder. */
export function writeRun(history: History, row: RunRow, folder: RunFolder, request: RunRequest, fresh: boolean): void {
  if (fresh) rmSync(folder.root, { recursive: true, force: true })
  rmSync(folder.result, { force: true })
  for (const one of [folder.steps, folder.tensors, folder.attempts]) mkdirSync(one, { recursive: true })
  for (const [name, run] of knownSteps(history, row)) {
    const file = join(folder.steps, `${hashOf(name)}.json`)
    const step = existsSync(file) ? undefined : history.steps.get(run, name)
    if (!step) continue
    if (step.tensors) placeFile(step.tensors.file, join(folder.tensors, basename(step.tensors.file)))
    writeStep(file, { name, value: step.value, ...(step.tensors ? { tensors: step.tensors } : {}) })
  }
  const file: RunFile = { format: 'espalier run request', formatVersion: 1, run: row.id, request, version }
  writeWhole(folder.request, JSON.stringify(file))
}

/** Returns the steps that a run may reuse (its own, and shared ones of its experiment) by name, each with the run that has it. */
function knownSteps(history: History, { id, experiment }: RunRow): Map<string, string> {
  const others = experiment === null ? [] : history.runs.ofExperiment(experiment).filter((other) => other.id !== id)
  const shared = others.flatMap((other) =>
    history.steps.names(other.id).flatMap((name) => (reachOfStep(name) === 'shared' ? [[name, other.id] as const] : [])),
  )
  return new Map([...shared, ...history.steps.names(id).map((name) => [name, id] as const)])
}

/** Returns the local files and folders that a request names, besides its model. Other sources are names of data sets. */
export function localPlaces(request: RunRequest): NamedPlace[] {
  return placesIn(runRequest, request).filter(({ path }) => path !== '' && existsSync(path))
}

export const endOf = (file: string): string => readNodeFile(file, -2000, 2000).toString()
