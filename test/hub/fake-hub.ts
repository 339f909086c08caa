import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a server may do wrong in a request. */
export type Fault =
  | { status: number; headers?: Record<string, string> }
  | { cutAfter: number }
  | { pace: { bytes: number; milliseconds: number } }
  | { stallAfter: number }
  | { ignoreRange: true; cutAfter?: number }
  | { wrongRange: true }
  | { body: Buffer }
  | { redirect: string }
  | { headers: Record<string, string> }

export interface SeenRequest {
  method: string
  path: string
  server: 'hub' | 'store'
  range: string | undefined
  authorization: string | undefined
}

export interface FakeRepository {
  commit: string
  files: Record<string, Buffer>
  /** Names to list in addition to the files. */
  alsoListed?: string[]
  token?: string
  gated?: boolean
}

export interface FakeHub {
  endpoint: string
  storeOrigin: string
  seen: SeenRequest[]
  /** Each is used up by the first request that fits its test. */
  faults: { when: (request: SeenRequest) => boolean; fault: Fault; times?: number }[]
  close(): Promise<void>
}

export const commit = 'c0ffee'.padEnd(40, '0')

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

export function gitSha1(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
}

/** A hub on localhost that serves small files itself and redirects to a second origin for large ones (.safetensors, .parquet, .gz). */
export async function startFakeHub(repositories: Record<string, FakeRepository>): Promise<FakeHub> {
  const hub: FakeHub = { endpoint: '', storeOrigin: '', seen: [], faults: [], close: async () => undefined }
  const store = await listen((request, response) => {
    const seen = note(hub, request, 'store')
    const bytes = Object.values(repositories)
      .flatMap((repository) => Object.values(repository.files))
      .find((file) => seen.path === `/${sha256(file)}`)
    if (bytes) send(seen, response, bytes, {}, takeFault(hub, seen))
    else response.writeHead(404).end()
  })
  const main = await listen((request, response) => {
    const seen = note(hub, request, 'hub')
    const fault = takeFault(hub, seen)
    if (fault && 'status' in fault) response.writeHead(fault.status, fault.headers).end()
    else if (fault && 'redirect' in fault) response.writeHead(302, { location: fault.redirect }).end()
    else answer(hub, repositories, seen, response, fault)
  })
  hub.endpoint = origin(main)
  hub.storeOrigin = origin(store)
  hub.close = async () => {
    for (const server of [main, store]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }
  return hub
}

function answer(
  hub: FakeHub,
  repositories: Record<string, FakeRepository>,
  seen: SeenRequest,
  response: ServerResponse,
  fault: Fault | undefined,
): unknown {
  const api = /^\/api\/models\/(.+)\/revision\/(.+)$/.exec(seen.path)
  const resolve = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(seen.path)
  const name = api ? api[1] : `${resolve?.[1] ?? ''}${resolve?.[2]}`
  const repository = repositories[name ?? '']
  if (!repository) return response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end()
  if (repository.token && seen.authorization !== `Bearer ${repository.token}`) {
    const code = repository.gated ? 403 : 401
    return response.writeHead(code, { 'x-error-code': repository.gated ? 'GatedRepo' : 'RepoNotFound' }).end()
  }
  const revision = decodeURIComponent(api?.[2] ?? resolve?.[3] ?? '')
  if (revision !== 'main' && revision !== repository.commit) return response.writeHead(404, { 'x-error-code': 'RevisionNotFound' }).end()
  if (api) {
    const siblings = [...Object.keys(repository.files), ...(repository.alsoListed ?? [])].map((rfilename) => ({ rfilename }))
    return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ sha: repository.commit, siblings }))
  }
  const path = decodeURIComponent(resolve?.[4] ?? '')
  const bytes = repository.files[path]
  if (!bytes) return response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end()
  const common = { 'x-repo-commit': repository.commit, ...(fault && 'headers' in fault ? fault.headers : {}) }
  if (!/\.(safetensors|parquet|gz)$/.test(path)) return send(seen, response, bytes, { ...common, etag: `"${gitSha1(bytes)}"` }, fault)
  const linked = {
    'x-linked-etag': `"${sha256(bytes)}"`,
    'x-linked-size': String(bytes.length),
    location: `${hub.storeOrigin}/${sha256(bytes)}`,
    etag: '"other"',
  }
  return response.writeHead(302, { ...linked, ...common }).end()
}

/** Sends bytes, with support for ranges, or with the fault. */
function send(
  seen: SeenRequest,
  response: ServerResponse,
  whole: Buffer,
  headers: Record<string, string>,
  fault: Fault | undefined,
): unknown {
  if (fault && 'status' in fault) return response.writeHead(fault.status, fault.headers).end()
  const body = fault && 'body' in fault ? fault.body : whole
  const ranged = seen.range !== undefined && !(fault && 'ignoreRange' in fault)
  const from = ranged ? Number(/bytes=(\d+)-/.exec(seen.range ?? '')?.[1]) : 0
  if (from >= body.length && ranged) return response.writeHead(416).end()
  const first = fault && 'wrongRange' in fault ? from + 1 : from
  const range = ranged ? { 'content-range': `bytes ${first}-${body.length - 1}/${body.length}` } : {}
  response.writeHead(ranged ? 206 : 200, { ...headers, ...range, 'content-length': String(body.length - from) })
  if (seen.method === 'HEAD') return response.end()
  const rest = body.subarray(from)
  if (fault && 'stallAfter' in fault) return response.write(rest.subarray(0, fault.stallAfter))
  if (fault && 'pace' in fault) return void sendSlowly(response, rest, fault.pace)
  if (fault && 'cutAfter' in fault && fault.cutAfter !== undefined)
    return response.write(rest.subarray(0, fault.cutAfter), () => setTimeout(() => response.destroy(), 250))
  return response.end(rest)
}

async function sendSlowly(response: ServerResponse, rest: Buffer, { bytes, milliseconds }: { bytes: number; milliseconds: number }) {
  for (let at = 0; at < rest.length && !response.destroyed; at += bytes) {
    response.write(rest.subarray(at, at + bytes))
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
  }
  response.end()
}

function takeFault(hub: FakeHub, seen: SeenRequest): Fault | undefined {
  const found = hub.faults.find((candidate) => candidate.when(seen) && (candidate.times ?? 1) > 0)
  if (found) found.times = (found.times ?? 1) - 1
  return found?.fault
}

function note(hub: FakeHub, request: IncomingMessage, server: SeenRequest['server']): SeenRequest {
  const seen: SeenRequest = {
    method: request.method ?? '',
    path: (request.url ?? '').replace(/\?.*/, ''),
    server,
    range: request.headers.range,
    authorization: request.headers.authorization,
  }
  hub.seen.push(seen)
  return seen
}

async function listen(handle: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(handle)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}

function origin(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
