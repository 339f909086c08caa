import { EspalierError } from '#contract/errors.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import { type Connection, requestHops, withAttempts } from './connection.ts'
import { isCommit } from './names.ts'

/** A file's metadata from a HEAD request. `hash` is a sha256 (64 digits, large files) or a git blob's sha1 (40 digits). */
export interface FileMetadata {
  commit: string
  hash: string
  bytes: number
}

export function describeFile(file: HubFile): string {
  return `${file.path} of ${file.repository} (revision ${file.revision})`
}

export function fileAddress(endpoint: string, file: HubFile): string {
  const path = file.path.split('/').map(encodeURIComponent).join('/')
  const prefix = file.kind === 'dataset' ? 'datasets/' : ''
  return `${endpoint}/${prefix}${file.repository}/resolve/${encodeURIComponent(file.revision)}/${path}`
}

/** Asks the hub for a file's commit, hash and size, without its content. */
export async function fetchMetadata(connection: Connection, file: HubFile, signal: AbortSignal): Promise<FileMetadata> {
  const hops = await withAttempts(connection, signal, () =>
    requestHops(connection, fileAddress(connection.endpoint, file), {
      method: 'HEAD',
      signal,
      subject: describeFile(file),
      stopAtOtherOrigin: true,
    }),
  )
  return readMetadata(hops, file)
}

function readMetadata(hops: Response[], file: HubFile): FileMetadata {
  const last = (name: string) => hops.map((hop) => hop.headers.get(name)).findLast((value) => value !== null)
  const final = hops.at(-1)
  const hash = (last('x-linked-etag') ?? last('etag') ?? '').replace(/^W\//, '').replaceAll('"', '').toLowerCase()
  const size = last('x-linked-size') ?? (final?.ok ? final.headers.get('content-length') : null)
  const commit = last('x-repo-commit') ?? file.revision
  const bytes = size === null || size === undefined ? Number.NaN : Number(size)
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash) && isCommit(commit) && Number.isSafeInteger(bytes) && bytes >= 0) {
    return { commit, hash, bytes }
  }
  const got = `hash '${hash}', commit '${commit}', size '${size ?? ''}'`
  throw new EspalierError(
    'invalid',
    `The server does not answer like the Hugging Face hub for ${describeFile(file)} (${got}). Check HF_ENDPOINT.`,
  )
}
