import type { Server } from 'node:http'
import type { Socket } from 'node:net'

export interface Connections {
  /** Marks a connection that has shown the token. It is never closed to make room. */
  trust(socket: Socket): void
  /** Number of open connections that have not shown the token. */
  strangers(): number
}

/** Limits unauthenticated connections, so that a flood cannot keep others out: beyond `limit`, each new one closes the oldest. */
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
