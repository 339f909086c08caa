import WebSocket from 'ws'
import type { ApiEvent, CallApi, CallName, Listener } from '#contract/api.ts'
import { type ErrorCode, EspalierError, errorCodes } from '#contract/errors.ts'
import { protocolVersion } from '#contract/machine/settings.ts'
import type { ServerAddress } from './address.ts'
import type { Door } from './door.ts'
import { eventProtocols } from './guard/token.ts'

export interface RemoteWorkbench extends Door {
  close(): Promise<void>
}

/** Connects to a server's workbench, which has the same interface as the local one. Throws if the protocol versions differ. */
export async function connectWorkbench(server: ServerAddress): Promise<RemoteWorkbench> {
  const call = callOver(server)
  const { protocol, version } = await call('workbench.get', {})
  if (protocol !== protocolVersion) {
    throw new EspalierError(
      'conflict',
      `${server.address} runs Espalier ${version} with protocol ${protocol}, but this one uses ${protocolVersion}. Install the same version.`,
    )
  }
  const listeners = new Map<Listener, (() => void) | undefined>()
  const tell: Listener = (event) => {
    for (const listener of listeners.keys()) listener(event)
  }
  const connected = () => {
    for (const ask of listeners.values()) ask?.()
  }
  let stop: (() => void) | undefined
  return {
    call,
    subscribe(listener, asksAgain) {
      listeners.set(listener, asksAgain)
      stop ??= listenTo(server, tell, connected)
      return () => listeners.delete(listener)
    },
    async close() {
      stop?.()
    },
  }
}

function callOver({ address, token }: ServerAddress): CallApi {
  const send = async (name: CallName, input: unknown): Promise<unknown> => {
    // Each request gets its own connection, because a busy server can close an idle one just as the next request uses it.
    const request = {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, connection: 'close' },
      body: JSON.stringify(input),
    }
    const response = await fetch(`${address}api/${name}`, { ...request, redirect: 'error' }).catch((thrown: Error) => {
      throw new EspalierError('unreachable', `${address} does not answer (${reasonOf(thrown)}). Is "espalier serve" running there?`)
    })
    const body: unknown = await response.json().catch(() => undefined)
    if (!response.ok) throw readFailure(address, response.status, body)
    return body
  }
  return send as CallApi
}

function reasonOf(thrown: Error): string {
  const cause = thrown.cause as NodeJS.ErrnoException | undefined
  return cause?.code ?? thrown.message
}

function readFailure(address: string, status: number, body: unknown): EspalierError {
  const { code, message, details } = (body ?? {}) as { code?: string; message?: string; details?: Record<string, unknown> }
  const known = errorCodes.find((one): one is ErrorCode => one === code)
  if (known && message) return new EspalierError(known, message, details)
  return new EspalierError('unreachable', `${address} answered ${status}: ${message ?? 'no reason given'}`)
}

const shortestWait = 500
const longestWait = 10_000

/** Follows a server's events and reconnects when the connection breaks. Returns a function that stops it. */
function listenTo({ address, token }: ServerAddress, tell: Listener, connected: () => void): () => void {
  let wait = shortestWait
  let timer: NodeJS.Timeout | undefined
  let socket: WebSocket | undefined
  let ended = false

  function open(): void {
    socket = new WebSocket(`${address.replace(/^http/, 'ws')}events`, eventProtocols(token), { perMessageDeflate: false })
    socket.on('open', () => {
      wait = shortestWait
      connected()
    })
    socket.on('message', (data) => tell(JSON.parse(data.toString()) as ApiEvent))
    socket.on('error', () => {})
    socket.on('close', () => {
      if (ended) return
      timer = setTimeout(open, wait)
      wait = Math.min(wait * 2, longestWait)
    })
  }

  open()
  return () => {
    ended = true
    clearTimeout(timer)
    socket?.close()
  }
}
