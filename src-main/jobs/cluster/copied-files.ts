import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import type { ClusterProfile } from '#contract/clusters/clusters.ts'
import { EspalierError } from '#contract/errors.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { modelContents, quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import { requestOf } from '../run-attempt.ts'
import { type ClusterFiles, endOf, localPlaces, logFile, type TaskOfRun, writeRun } from './cluster-files.ts'
import { type ClusterShell, clusterShell } from './cluster-shell.ts'
import { type Copying, copying } from './rsync.ts'
import { readWhole, runFolderOf } from './run-folder.ts'

/** Remote paths in a run's request, mapped to their local paths. */
const knownPlaces = z.record(z.string(), z.string())

/** Weight formats that Espalier does not read. */
const unreadWeights = ['*.bin', '*.pt', '*.pth', '*.h5', '*.msgpack', '*.onnx', '*.ot', '.git', '.cache']

/**
 * Opens a cluster folder behind ssh that this machine does not see. Models and texts are copied once, named by their content. Requests are
 * copied to the cluster, and what nodes write is copied to a folder beside the history, all with rsync over ssh.
 */
export function copiedFiles(history: History, { name, host, folder }: ClusterProfile, signal: AbortSignal): ClusterFiles {
  const mirror = join(dirname(history.folders.file), 'clusters', name)
  const shell = clusterShell(host, signal)
  return new CopiedFiles(history, { mirror, folder, shell, copy: copying(host, signal), signal })
}

class CopiedFiles implements ClusterFiles {
  readonly #history: History
  readonly #mirror: string
  readonly #folder: string
  readonly #shell: ClusterShell
  readonly #copy: Copying
  /** Local paths that must be copied before runs are sent, by remote path. */
  readonly #wanted = new Map<string, string>()
  /** Remote paths inside the cluster's folder that must be removed before runs are sent. */
  readonly #unwanted = new Set<string>()
  readonly #signal: AbortSignal
  readonly #known = new Map<string, Promise<string>>()

  constructor(history: History, parts: { mirror: string; folder: string; shell: ClusterShell; copy: Copying; signal: AbortSignal }) {
    this.#history = history
    this.#signal = parts.signal
    this.#mirror = parts.mirror
    this.#folder = parts.folder.replace(/\/$/, '')
    this.#shell = parts.shell
    this.#copy = parts.copy
  }

  runFolder = (run: string) => runFolderOf(this.#mirror, run)

  async write(row: RunRow, fresh: boolean): Promise<void> {
    const request = requestOf(this.#history, row)
    const names: Record<string, string> = {}
    const want = (path: string, subfolder: string): string => {
      const remote = `${this.#folder}/${subfolder}/${basename(path)}`
      this.#wanted.set(remote, path)
      names[remote] = path
      return remote
    }
    for (const { path, replace } of localPlaces(request)) {
      const absolute = resolve(path)
      replace(want(absolute, `texts/${await contentHash(absolute)}`))
    }
    const model = resolve(request.model)
    const remoteModel = want(model, `models/${await this.#contents(model)}`)
    writeRun(this.#history, row, this.runFolder(row.id), { ...request, model: remoteModel }, fresh)
    writeWhole(this.#placesOf(row.id), JSON.stringify(names))
    this.#unwanted.add(fresh ? `runs/${row.id}` : `runs/${row.id}/result.json`)
  }

  /** Returns a model's fingerprint, computed once per quick key. A remote copy under this name has exactly this content. */
  async #contents(model: string): Promise<string> {
    const key = `${model}\n${await quickKeyOf(model)}`
    const known = this.#known.get(key) ?? modelContents(model, { signal: this.#signal })
    this.#known.set(key, known)
    known.catch(() => this.#known.delete(key))
    return known
  }

  #placesOf(run: string): string {
    return join(this.runFolder(run).root, 'places.json')
  }

  async push(runs: readonly string[]): Promise<void> {
    await this.#ask('rm', '-rf', '--', ...[...this.#unwanted].map((one) => `${this.#folder}/${one}`))
    const folders = [`${this.#folder}/logs`, `${this.#folder}/runs`, ...[...this.#wanted.keys()].map(dirname)]
    await this.#ask('mkdir', '-p', '--', ...new Set(folders))
    for (const [remote, path] of this.#wanted) await this.#send(remote, path)
    const runFiles = runs.flatMap((run) => ['request.json', 'steps', 'tensors'].map((one) => `runs/${run}/${one}`))
    await this.#copy.sendListed(runFiles, this.#mirror, this.#folder)
    this.#wanted.clear()
    this.#unwanted.clear()
  }

  /** Copies a file or folder, and removes the copy if the content changed meanwhile, because the copy is named by the old content. */
  async #send(remote: string, path: string): Promise<void> {
    await this.#copy.send(path, dirname(remote), unreadWeights)
    const model = /\/models\/([0-9a-f]{64})\//.exec(remote)?.[1]
    const content = model === undefined ? await contentHash(path) : await this.#contents(path)
    if (remote.includes(`/${content}/`)) return
    this.#wanted.delete(remote)
    await this.#ask('rm', '-rf', '--', dirname(remote))
    throw new EspalierError('conflict', `${path} changed while it was being copied to ${this.#shell.host}. It will be copied again.`)
  }

  async pull(runs: readonly TaskOfRun[]): Promise<void> {
    const wanted = runs.flatMap(({ run, task }) => [`runs/${run}`, ...(task === null ? [] : [`logs/${task}.txt`])])
    mkdirSync(this.#mirror, { recursive: true, mode: 0o700 })
    await this.#copy.fetchListed(wanted, this.#folder, this.#mirror)
  }

  async #ask(...command: [string, ...string[]]): Promise<void> {
    const { code, errors } = await this.#shell.run(command)
    if (code !== 0) throw new EspalierError('unreachable', `${command[0]} on ${this.#shell.host}: ${errors.trim() || `code ${code}`}`)
  }

  placed(run: string, path: string): string {
    const tensors = `${this.#folder}/runs/${run}/tensors/`
    if (path.startsWith(tensors)) return join(this.runFolder(run).tensors, basename(path))
    return readWhole(knownPlaces, this.#placesOf(run))?.[path] ?? path
  }

  logOf = (task: string) => endOf(logFile(this.#mirror, task))

  /** Removes the local files, and the remote ones if the cluster can be reached. */
  forget(run: string): void {
    rmSync(this.runFolder(run).root, { recursive: true, force: true })
    void this.#shell.run(['rm', '-rf', '--', `${this.#folder}/runs/${run}`])
  }
}

/** Hashes the entire content of a file or folder, including the names inside it. */
async function contentHash(path: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of filesUnder(path)) {
    hash.update(`${relative(path, file)}\n${statSync(file).size}\n`)
    await pipeline(createReadStream(file), hash, { end: false })
  }
  return hash.digest('hex')
}

function filesUnder(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesUnder(join(path, name)))
}
