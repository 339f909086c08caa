import WebSocket from 'ws'
import type { ApiEvent, Listener } from '#contract/api.ts'
import type { ServerAddress } from './address.ts'
import { eventProtocols } from './guard/guard.ts'

const shortestWait = 500
const longestWait = 10_000

/** Follows a server's events and reconnects when the connection breaks. Returns a function that stops it. */
export function listenTo({ address, token }: ServerAddress, tell: Listener): () => void {
  let wait = shortestWait
  let timer: NodeJS.Timeout | undefined
  let socket: WebSocket | undefined
  let ended = false

  function open(): void {
    socket = new WebSocket(`${address.replace(/^http/, 'ws')}events`, eventProtocols(token), { perMessageDeflate: false })
    socket.on('open', () => {
      wait = shortestWait
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
