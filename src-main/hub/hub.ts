import { EspalierError } from '#contract/errors.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import type { Connection } from './connection.ts'
import { describeFile, fetchMetadata } from './file-metadata.ts'
import { findCached, findCacheFolder, readCommit, repositoryFolder, snapshotPath, writeCommit } from './hub-cache.ts'
import { findToken } from './hub-token.ts'
import { listModel, missingModelFiles, neededModelFiles } from './listing.ts'
import { checkPath, checkRepository, checkRevision, isCommit } from './names.ts'
import { transferFiles } from './transfer.ts'

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
  return transferFiles(context.connection, context.cacheFolder, files, {
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
