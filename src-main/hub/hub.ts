import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { readSmallFile } from '#runtime/small-file.ts'
import { type Connection, requestHops, withAttempts } from './connection.ts'
import { downloadFiles } from './download-files.ts'
import { describeFile, fetchMetadata } from './file-metadata.ts'
import { findCached, findCacheFolder, findHubHome, readCommit, repositoryFolder, snapshotPath, writeCommit } from './hub-cache.ts'
import { checkPath, checkRepository, checkRevision, isCommit } from './names.ts'

/** How long `checkFile` waits for the hub. */
const checkMilliseconds = 1200

const standardEndpoint = 'https://huggingface.co'

export interface HubOptions {
  environment?: Record<string, string | undefined>
  /** Overrides the Python library's cache folder (`--cache_dir`). */
  cacheFolder?: string
  /** Our token file; only its owner may be able to read it. */
  tokenFile?: string
  attempts?: number
  pauseSeconds?: number
  idleSeconds?: number
  measureFree?: (folder: string) => Promise<number>
}

interface FetchOptions {
  signal?: AbortSignal
  report?: (progress: Progress) => void
}

/** Models and data sets by name, from the Python library's cache or downloaded to it. */
interface Hub {
  readonly cacheFolder: string
  /** The path of one file. Uses the network only if the cache lacks the file in that revision. */
  fetchFile(file: HubFile, options?: FetchOptions): Promise<string>
  /** Throws if a file is neither cached nor available. If the hub is slow to answer, we assume the file exists. */
  checkFile(file: HubFile): Promise<void>
  /** The folder of a model. Branches and tags are looked up again if the hub is reachable. */
  fetchModel(repository: string, revision?: string, options?: FetchOptions): Promise<string>
  /** The folder of a model that is completely cached; never uses the network. */
  findModel(repository: string, revision?: string): Promise<string | undefined>
}

export async function openHub(options: HubOptions = {}): Promise<Hub> {
  const environment = options.environment ?? process.env
  const cacheFolder = options.cacheFolder ?? findCacheFolder(environment)
  const connection: Connection = {
    endpoint: (environment.HF_ENDPOINT || standardEndpoint).replace(/\/+$/, ''),
    token: await findToken(environment, options.tokenFile),
    attempts: options.attempts ?? 5,
    pauseSeconds: options.pauseSeconds ?? 1,
    idleSeconds: options.idleSeconds ?? 30,
  }
  checkEndpoint(connection.endpoint)
  const offline = /^(1|true|yes|on)$/i.test(environment.HF_HUB_OFFLINE ?? '')
  const context: Context = { connection, cacheFolder, offline, measureFree: options.measureFree }
  return {
    cacheFolder,
    fetchFile: (file, fetchOptions = {}) => fetchFile(context, file, fetchOptions),
    checkFile: (file) => checkFile(context, file),
    fetchModel: (repository, revision = 'main', fetchOptions = {}) => fetchModel(context, repository, revision, fetchOptions),
    findModel: (repository, revision = 'main') => findModel(cacheFolder, repository, revision),
  }
}

interface Context {
  connection: Connection
  cacheFolder: string
  offline: boolean
  measureFree: ((folder: string) => Promise<number>) | undefined
}

async function fetchFile(context: Context, file: HubFile, options: FetchOptions): Promise<string> {
  checkRepository(file.repository)
  checkRevision(file.revision)
  checkPath(file.path, file.repository)
  const cached = await findCached(context.cacheFolder, file)
  if (cached !== undefined) return cached
  try {
    const [path] = await transfer(context, [file], options)
    return path as string
  } catch (thrown) {
    throw absenceOf(context, thrown, file)
  }
}

async function checkFile(context: Context, file: HubFile): Promise<void> {
  if ((await findCached(context.cacheFolder, file)) !== undefined) return
  const patience = AbortSignal.timeout(checkMilliseconds)
  try {
    if (context.offline) throw offlineError()
    await fetchMetadata({ ...context.connection, attempts: 1 }, file, patience)
  } catch (thrown) {
    if (!patience.aborted) throw absenceOf(context, thrown, file)
  }
}

function absenceOf({ cacheFolder }: Context, thrown: unknown, file: HubFile): unknown {
  const folder = repositoryFolder(cacheFolder, file.kind, file.repository)
  return explainAbsence(thrown, describeFile(file), `or copy the folder ${folder} from a machine that has it`)
}

async function fetchModel(context: Context, repository: string, revision: string, options: FetchOptions): Promise<string> {
  checkRepository(repository)
  checkRevision(revision)
  const stored = await findModel(context.cacheFolder, repository, revision)
  if (stored !== undefined && (isCommit(revision) || context.offline)) return stored
  try {
    return await downloadModel(context, repository, revision, options)
  } catch (thrown) {
    if (stored !== undefined && isUnreachable(thrown)) return stored
    throw await explainMissingModel(context, thrown, repository, revision)
  }
}

async function downloadModel(context: Context, repository: string, revision: string, options: FetchOptions): Promise<string> {
  if (context.offline) throw offlineError()
  const signal = options.signal ?? new AbortController().signal
  const { commit, paths } = await listModel(context.connection, repository, revision, signal)
  const folder = repositoryFolder(context.cacheFolder, 'model', repository)
  const files = neededModelFiles(repository, paths).map((path): HubFile => ({ kind: 'model', repository, revision: commit, path }))
  const cached = await Promise.all(files.map((file) => findCached(context.cacheFolder, file)))
  await transfer(
    context,
    files.filter((_, index) => cached[index] === undefined),
    { ...options, signal },
  )
  await writeCommit(folder, revision, commit)
  return snapshotPath(folder, commit, '')
}

async function findModel(cacheFolder: string, repository: string, revision: string): Promise<string | undefined> {
  const folder = repositoryFolder(cacheFolder, 'model', repository)
  const commit = await readCommit(folder, revision)
  if (commit === undefined) return undefined
  const snapshot = snapshotPath(folder, commit, '')
  return (await missingModelFiles(snapshot)).length === 0 ? snapshot : undefined
}

async function transfer(context: Context, files: HubFile[], options: FetchOptions): Promise<string[]> {
  if (context.offline) throw offlineError()
  return downloadFiles(context.connection, context.cacheFolder, files, {
    signal: options.signal ?? new AbortController().signal,
    report: options.report ?? (() => undefined),
    ...(context.measureFree ? { measureFree: context.measureFree } : {}),
  })
}

async function explainMissingModel(context: Context, thrown: unknown, repository: string, revision: string): Promise<unknown> {
  if (!isUnreachable(thrown)) return thrown
  const folder = repositoryFolder(context.cacheFolder, 'model', repository)
  const commit = await readCommit(folder, revision)
  const missing = await missingModelFiles(snapshotPath(folder, commit ?? revision, ''))
  const advice = `copy the folder ${folder} from a machine that has it, or give the path of a folder with these files as the model`
  return explainAbsence(thrown, `${missing.join(', ')} of ${repository} (revision ${revision})`, advice)
}

/** Adds to a network failure which file is missing and where it can be placed. */
function explainAbsence(thrown: unknown, subject: string, advice: string): unknown {
  if (!isUnreachable(thrown)) return thrown
  const { message, details } = thrown as EspalierError
  const absent = message.includes(subject) ? 'it' : subject
  return new EspalierError('unreachable', `${message} The cache does not have ${absent}: connect and try again, ${advice}.`, details)
}

function isUnreachable(thrown: unknown): boolean {
  if (!(thrown instanceof EspalierError) || thrown.code !== 'unreachable') return false
  const status = thrown.details?.status
  return typeof status !== 'number' || status === 429 || status >= 500
}

function offlineError(): EspalierError {
  return new EspalierError('unreachable', 'HF_HUB_OFFLINE is set, so nothing is downloaded.')
}

function checkEndpoint(endpoint: string): void {
  if (URL.canParse(endpoint) && /^https?:$/.test(new URL(endpoint).protocol)) return
  throw new EspalierError('usage', `HF_ENDPOINT is '${endpoint}'. It must be an address that starts with https:// or http://.`)
}

const answer = z.object({ sha: z.string(), siblings: z.array(z.object({ rfilename: z.string() })) })

interface Listing {
  commit: string
  paths: string[]
}

/** Returns the commit of a revision of a model's repository, and the paths of all its files. */
export async function listModel(connection: Connection, repository: string, revision: string, signal: AbortSignal): Promise<Listing> {
  const url = `${connection.endpoint}/api/models/${repository}/revision/${encodeURIComponent(revision)}`
  const subject = `${repository} (revision ${revision})`
  const body = await withAttempts(connection, signal, async () => {
    const hops = await requestHops(connection, url, { signal, subject })
    return hops
      .at(-1)
      ?.json()
      .catch(() => undefined)
  })
  const parsed = answer.safeParse(body)
  if (!parsed.success || !isCommit(parsed.data.sha)) {
    throw new EspalierError('invalid', `The server's answer for ${subject} is not a Hugging Face file listing. Check HF_ENDPOINT.`)
  }
  return { commit: parsed.data.sha, paths: parsed.data.siblings.map((sibling) => sibling.rfilename) }
}

/**
 * Returns the files that Espalier needs: safetensors weights, configuration, tokenizer and licence. Files in subfolders are ignored. Throws
 * `invalid` if there are no such weights, or if a file to download has an unsafe path.
 */
export function neededModelFiles(repository: string, paths: string[]): string[] {
  const weights = chooseWeights(paths)
  if (weights.length === 0) throw noWeightsError(repository, paths)
  const companions = paths.filter((path) => !path.includes('/') && isCompanion(path))
  for (const path of [...weights, ...companions]) checkPath(path, repository)
  return [...companions, ...weights].sort()
}

/**
 * Returns the weights to download: `model.safetensors` if it is listed, otherwise its shards, otherwise every safetensors file at the top
 * level except `consolidated*`. A repository may hold the same weights both in one file and in shards, or under another name.
 */
function chooseWeights(paths: string[]): string[] {
  if (paths.includes('model.safetensors')) return ['model.safetensors']
  const shards = paths.filter((path) => /^model-\d+-of-\d+\.safetensors$/.test(path))
  if (shards.length > 0) return shards
  // A path that starts with `./`, `../` or `/` does not count as in a folder, so that `checkPath` gets to reject it.
  const inFolder = /^(?!\.\.?\/)[^/]+\//
  return paths.filter((path) => path.endsWith('.safetensors') && !inFolder.test(path) && !path.startsWith('consolidated'))
}

function isCompanion(path: string): boolean {
  if (/^(consolidated|training_args|trainer_state|optimizer)/.test(path) || /\.(onnx|msgpack)/.test(path)) return false
  return /\.(json|model|jinja|tiktoken)$/.test(path) || /^(merges|vocab)\.txt$/.test(path) || /^(LICENSE|NOTICE)(\.\w+)?$/i.test(path)
}

function noWeightsError(repository: string, paths: string[]): EspalierError {
  const others = paths.filter((path) => /\.(bin|pth|pt|gguf|h5|msgpack|onnx)$/.test(path)).slice(0, 3)
  const found = others.length > 0 ? `, only ${others.join(', ')}` : ''
  return new EspalierError(
    'invalid',
    `${repository} has no safetensors weights at its top level${found}. Choose a repository that has *.safetensors files there.`,
  )
}

const shardIndex = z.object({ weight_map: z.record(z.string(), z.string()) })

/** Returns the names of the files that a model folder lacks; empty if it is complete. */
export async function missingModelFiles(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => [])
  const missing = names.includes('config.json') ? [] : ['config.json']
  if (!names.some((name) => /^tokenizer\.(json|model)$|^vocab\.json$/.test(name))) missing.push('tokenizer.json')
  return [...missing, ...(await missingWeights(folder, names))].filter((name) => !existsSync(join(folder, name)))
}

async function missingWeights(folder: string, names: string[]): Promise<string[]> {
  if (names.includes('model.safetensors')) return ['model.safetensors']
  const index = await readSmallFile(join(folder, 'model.safetensors.index.json')).catch(() => undefined)
  if (index === undefined) return names.some((name) => name.endsWith('.safetensors')) ? [] : ['model.safetensors']
  const parsed = shardIndex.safeParse(parseJson(index))
  return parsed.success ? [...new Set(Object.values(parsed.data.weight_map))] : ['model.safetensors.index.json (it is damaged)']
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

type Environment = Record<string, string | undefined>

/**
 * Finds the token for the hub: in the environment, else in our file, else in the Python library's file. Returns undefined if there is none.
 * Throws if other users can read our file.
 */
export async function findToken(environment: Environment, tokenFile: string | undefined): Promise<string | undefined> {
  const named = clean(environment.HF_TOKEN) ?? clean(environment.HUGGING_FACE_HUB_TOKEN)
  if (named) return named
  const own = tokenFile === undefined ? undefined : await readOwnToken(tokenFile)
  if (own) return own
  const python = environment.HF_TOKEN_PATH || join(findHubHome(environment), 'token')
  return clean(await readSmallFile(python).catch(() => undefined))
}

async function readOwnToken(tokenFile: string): Promise<string | undefined> {
  const found = await stat(tokenFile).catch(() => undefined)
  if (!found) return undefined
  if (process.platform !== 'win32' && (found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8)
    throw new EspalierError(
      'invalid',
      `The token file ${tokenFile} has mode ${mode}, so other users can read it. Run: chmod 600 ${tokenFile}`,
    )
  }
  return clean(await readSmallFile(tokenFile))
}

/** A header value must be printable ASCII; anything else is not a token. */
function clean(text: string | undefined): string | undefined {
  const trimmed = text?.trim()
  return trimmed && /^[!-~]+$/.test(trimmed) ? trimmed : undefined
}
