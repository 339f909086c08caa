import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { EspalierError } from '#contract/errors.ts'
import { answerCall, checkMethod } from './answer-call.ts'
import type { Door } from './door.ts'
import { answerDownload } from './downloads.ts'
import { type EventDoor, openEvents, refuseUpgrade } from './events.ts'
import { bracketed, checkHost, checkOrigin, checkPageOrigin, type HostList, hostList } from './guard/hosts.ts'
import { Refusal } from './guard/refusal.ts'
import { checkToken } from './guard/token.ts'
import { openAiFailure } from './openai/failure.ts'
import { OpenAiDoor, openAiRoot } from './openai/openai.ts'
import { openPageFiles, type PageFiles } from './page-files.ts'
import { answerFailure, answerPage } from './send-answers.ts'

export interface ServerSettings {
  door: Door
  /** Folder of the built screens. */
  pages: string
  host: string
  /** 0 takes any free port. */
  port: number
  token: string
  /** Additional `name:port` values that this server accepts. */
  allowedHosts?: readonly string[]
  /** Time limits in milliseconds for a client's headers, for its whole request, and for reading nothing of an answer. */
  patience?: { headers: number; request: number; reading?: number }
}

export interface RunningServer {
  /** The server's address, without the token. */
  address: string
  port: number
  close(): Promise<void>
}

interface Parts {
  settings: ServerSettings
  hosts: HostList
  pages: PageFiles
  events: EventDoor
  connections: Connections
  openAi: OpenAiDoor
}

const mostStrangers = 256

/** Serves the workbench's screens, calls and events over HTTP. */
export async function startServer(settings: ServerSettings): Promise<RunningServer> {
  const patience = settings.patience ?? { headers: 10_000, request: 60_000 }
  const server = createServer({
    headersTimeout: patience.headers,
    requestTimeout: patience.request,
    keepAliveTimeout: 5000,
    connectionsCheckingInterval: Math.min(1000, patience.headers),
    noDelay: true,
  })
  const connections = limitConnections(server, mostStrangers)
  await listen(server, settings)
  const { port } = server.address() as AddressInfo
  const hosts = hostList(settings.host, port, settings.allowedHosts)
  const parts = {
    ...{ settings, hosts, connections, pages: openPageFiles(settings.pages) },
    events: openEvents(settings.door.subscribe),
    openAi: new OpenAiDoor(settings.door, patience.reading),
  }
  const handle = (request: IncomingMessage, response: ServerResponse) => void answer(parts, request, response)
  server.on('request', handle)
  // Without this handler, Node would answer `Expect: 100-continue` itself and so invite a body of any size.
  server.on('checkContinue', handle)
  server.on('upgrade', (request, socket, head) => {
    try {
      checkUpgrade(parts, request)
      parts.events.accept(request, socket, head)
    } catch (thrown) {
      refuseUpgrade(socket, thrown)
    }
  })
  return { address: `http://${bracketed(settings.host)}:${port}/`, port, close: () => closeServer(server, parts.events) }
}

function listen(server: Server, { host, port }: ServerSettings): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(explainListen(error, host, port)))
    server.listen({ host, port, backlog: 1024 }, resolve)
  })
}

function explainListen(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code === 'EADDRINUSE')
    return new EspalierError('conflict', `Port ${port} is in use. Choose another, or leave --port out for a free one.`)
  if (error.code === 'EACCES') return new EspalierError('usage', `You do not have permission to open port ${port}. Choose 1024 or above.`)
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return new EspalierError('usage', `This machine has no address ${host}.`)
  return error
}

async function answer(parts: Parts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    await route(parts, request, response)
  } catch (thrown) {
    answerFailure(request, response, thrown, request.url?.startsWith(openAiRoot) ? openAiFailure : undefined)
  }
}

async function route(parts: Parts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  checkHost(request, parts.hosts)
  const path = pathOf(request)
  if (request.method !== 'POST') checkNoBody(request)
  if (!['/api/', '/exports/', openAiRoot].some((root) => path.startsWith(root))) {
    checkPageOrigin(request)
    checkMethod(request, 'GET', 'HEAD')
    return answerPage(request, response, await parts.pages(path))
  }
  checkOrigin(request)
  checkToken(request, parts.settings.token)
  parts.connections.trust(request.socket)
  if (path.startsWith('/api/')) return answerCall(parts.settings.door.call, path, request, response)
  if (path.startsWith(openAiRoot)) return parts.openAi.answer(path, request, response)
  checkMethod(request, 'GET', 'HEAD')
  return answerDownload(parts.settings.door.call, path, request, response)
}

function checkNoBody(request: IncomingMessage): void {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = request.headers
  if (Number(length) > 0 || coding) throw new Refusal(413, 'This address does not accept a body.')
}

function checkUpgrade(parts: Parts, request: IncomingMessage): void {
  checkHost(request, parts.hosts)
  checkOrigin(request)
  if (pathOf(request) !== '/events') throw new Refusal(404, 'Events are at /events.')
  checkToken(request, parts.settings.token)
  parts.connections.trust(request.socket)
}

/** Returns the path as sent, still encoded, because it must be checked before anything normalises it. */
function pathOf(request: IncomingMessage): string {
  const [path = ''] = (request.url ?? '').split('?', 1)
  if (!path.startsWith('/')) throw new Refusal(400, 'Request a path, not a full address.')
  return path
}

/** Stops listening, disconnects event listeners, and gives pending responses two seconds. */
function closeServer(server: Server, events: EventDoor): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    events.close()
    server.closeIdleConnections()
    setTimeout(() => server.closeAllConnections(), 2000).unref()
  })
}

interface Connections {
  /** Marks a connection that has shown the token. It is never closed to make room. */
  trust(socket: Socket): void
  /** Number of open connections that have not shown the token. */
  strangers(): number
}

/** Limits unauthenticated connections, so that a flood cannot keep others out: beyond `limit`, each new one closes the oldest. */
function limitConnections(server: Server, limit: number): Connections {
  const strangers = new Set<Socket>()
  server.on('connection', (socket) => {
    strangers.add(socket)
    socket.once('close', () => strangers.delete(socket))
    const [oldest] = strangers
    if (strangers.size <= limit || oldest === undefined) return
    strangers.delete(oldest)
    oldest.destroy()
  })
  return { trust: (socket) => strangers.delete(socket), strangers: () => strangers.size }
}
