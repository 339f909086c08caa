import type { Server } from 'node:http'
import type { Socket } from 'node:net'

export interface Connections {
  /** A connection over which the token was shown is never closed to make room. */
  trust(socket: Socket): void
  /** Open connections that have not shown the token. */
  strangers(): number
}

/** Keeps the door open under a flood: beyond `limit` strangers, each new connection closes the oldest one. */
export function limitConnections(server: Server, limit: number): Connections {
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
