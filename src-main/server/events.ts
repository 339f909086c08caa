import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Door } from './door.ts'
import { securityHeaders } from './guard/content-policy.ts'
import { answerFor } from './guard/refusal.ts'
import { eventProtocol } from './guard/token.ts'

/** A listener this many bytes behind is disconnected; it reconnects and queries again. */
const mostBehind = 16 * 1024 * 1024
const pingMilliseconds = 20_000

export interface EventDoor {
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void
  close(): void
}

/** Sends every event to every accepted WebSocket. Each event is serialised once for all of them. */
export function openEvents(subscribe: Door['subscribe']): EventDoor {
  const server = new WebSocketServer({ noServer: true, maxPayload: 4096, perMessageDeflate: false, handleProtocols: () => eventProtocol })
  const answered = new WeakSet<WebSocket>()
  const stop = subscribe((event) => {
    if (server.clients.size === 0) return
    const text = JSON.stringify(event)
    for (const client of server.clients) send(client, text)
  })
  const pings = setInterval(() => {
    for (const client of server.clients) ping(client, answered)
  }, pingMilliseconds)
  pings.unref()
  return {
    accept: (request, socket, head) =>
      server.handleUpgrade(request, socket, head, (client) => {
        answered.add(client)
        client.on('pong', () => answered.add(client))
        client.on('error', () => client.terminate())
      }),
    close() {
      stop()
      clearInterval(pings)
      for (const client of server.clients) client.close(1001, 'The server is stopping.')
      server.close()
    },
  }
}

function send(client: WebSocket, text: string): void {
  if (client.readyState !== client.OPEN) return
  if (client.bufferedAmount > mostBehind) client.close(1013, 'Too far behind.')
  else client.send(text)
}

function ping(client: WebSocket, answered: WeakSet<WebSocket>): void {
  if (!answered.delete(client)) client.terminate()
  else client.ping()
}

/** Refuses an upgrade in plain HTTP, because there is no response object for it. */
export function refuseUpgrade(socket: Duplex, thrown: unknown): void {
  const { status, headers, body } = answerFor(thrown)
  const text = JSON.stringify(body)
  const lines = {
    ...securityHeaders,
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    connection: 'close',
    ...headers,
  }
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.on('error', () => socket.destroy())
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${head.join('')}\r\n${text}`, () => socket.destroy())
}
