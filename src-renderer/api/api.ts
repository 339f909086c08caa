import type { ApiEvent, CallApi, CallName, EventData, EventName, Input, Listener, Output } from '#contract/api.ts'
import { type ErrorCode, type ErrorMessage, EspalierError, errorCodes } from '#contract/errors.ts'
import type { BridgeAnswer, DesktopBridge, DesktopCommand, DesktopMenuItem } from '#contract/machine/bridge.ts'
import type { Settings } from '#contract/machine/settings.ts'
import { connection } from './connection.svelte.ts'
import { answerTabs, askTabs, readToken } from './token.ts'

declare global {
  interface Window {
    espalier?: DesktopBridge
  }
}

const bridge = typeof window === 'undefined' ? undefined : window.espalier
const listeners = new Set<Listener>()
const reconnectListeners = new Set<() => void>()
const longestWait = 3000

/** Makes a call and returns its output. Throws an `EspalierError` with a sentence for users if the call fails. */
export const call: CallApi = async (name, input, signal) => {
  const answer = bridge ? await callBridge(bridge, name, input, signal) : await post(name, input, signal)
  if ('error' in answer) throw new EspalierError(answer.error.code, answer.error.message, answer.error.details)
  return answer.value as Output<typeof name>
}

function callBridge({ call, cancel }: DesktopBridge, name: CallName, input: unknown, signal?: AbortSignal): Promise<BridgeAnswer> {
  if (!signal) return call(name, plain(input))
  const id = crypto.randomUUID()
  signal.addEventListener('abort', () => void cancel(id))
  return call(name, plain(input), id)
}

/** The bridge clones its arguments, and refuses the proxies that Svelte keeps state in. */
function plain(input: unknown): unknown {
  return JSON.parse(JSON.stringify(input))
}

/** Listens to one kind of event. Returns a function that stops listening. */
export function on<E extends EventName>(name: E, listener: (data: EventData<E>) => void): () => void {
  const wrapped: Listener = (event) => {
    if (event.name === name) listener(event.data as EventData<E>)
  }
  listeners.add(wrapped)
  return () => listeners.delete(wrapped)
}

/** Calls the listener when the connection is back after a break. Events of the break are not sent again, so the listener has to reload. */
export function onReconnect(listener: () => void): () => void {
  reconnectListeners.add(listener)
  return () => reconnectListeners.delete(listener)
}

/** Calls the listener when events were missed: after a break of the connection, and when another process changed what lists show. */
export function onMissed(listener: () => void): () => void {
  const stops = [onReconnect(listener), on('history changed', listener)]
  return () => {
    for (const stop of stops) stop()
  }
}

/** Signs in and starts listening for events; called once, before the first screen. */
export async function connect(): Promise<void> {
  if (bridge) {
    bridge.subscribe(dispatch)
    connection.set('open')
  } else {
    await askTabs()
    answerTabs(() => connection.state === 'open')
    openSocket(0)
  }
}

/** Opens the system's dialog for a folder or a file; null if it was cancelled. */
export async function choosePlace(kind: 'folder' | 'file'): Promise<string | null> {
  if (!bridge) return null
  const answer = kind === 'folder' ? await bridge.chooseFolder() : await bridge.chooseFile()
  return 'value' in answer ? answer.value : null
}

/** The path of a dropped file or folder. Null in a browser, which does not reveal it. */
export function placeOf(file: File): string | null {
  return bridge?.pathOf(file) || null
}

/** Whether the page is in the desktop window, which has the system's dialogs. */
export const hasSystemDialog = (): boolean => bridge !== undefined

/** What only the desktop window has: commands of its menus, menus of the system, its own theme. Undefined in a browser. */
export const desktop = bridge && {
  onCommand: (listener: (command: DesktopCommand) => void) => bridge.onCommand(listener),
  showMenu: (items: DesktopMenuItem[]) => unwrap(bridge.showMenu(items)),
  setTheme: (theme: Settings['theme']) => unwrap(bridge.setTheme(theme)),
}

async function unwrap<Value>(answer: Promise<BridgeAnswer<Value>>): Promise<Value> {
  const settled = await answer
  if ('error' in settled) throw new EspalierError(settled.error.code, settled.error.message, settled.error.details)
  return settled.value
}

export async function copyText(text: string): Promise<void> {
  if (bridge) await bridge.copyText(text)
  else await navigator.clipboard.writeText(text)
}

/** Shows a file or folder in the system's file manager. Undefined in a browser, which cannot. */
export const showInFolder =
  bridge &&
  (async (path: string): Promise<void> => {
    const answer = await bridge.showInFolder(path)
    if ('error' in answer) throw new Error(answer.error.message)
  })

async function post<C extends CallName>(name: C, input: Input<C>, signal: AbortSignal | null = null): Promise<BridgeAnswer> {
  let response: Response
  try {
    response = await fetch(`/api/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${readToken()}` },
      body: JSON.stringify(input),
      signal,
    })
  } catch {
    signal?.throwIfAborted()
    return { error: { code: 'unreachable', message: 'Connection lost. Reconnecting …' } }
  }
  if (response.status === 401) {
    const isSignedOut = readToken() === ''
    connection.set(isSignedOut ? 'signed out' : 'refused')
    const what = isSignedOut ? 'This tab is not signed in.' : 'This link has expired.'
    return { error: { code: 'unreachable', message: `${what} Open the address shown in the terminal.` } }
  }
  const body: unknown = await response.json().catch(() => null)
  if (response.ok) return { value: body }
  return { error: readError(body, response.status) }
}

function readError(body: unknown, status: number): ErrorMessage {
  if (isRecord(body) && typeof body.message === 'string') {
    const code = errorCodes.find((known): known is ErrorCode => known === body.code) ?? 'internal'
    return { code, message: body.message, ...(isRecord(body.details) ? { details: body.details } : {}) }
  }
  return { code: 'internal', message: `The workbench answered with status ${status} and no explanation.` }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function openSocket(attempt: number): void {
  const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/events`, ['espalier', `espalier.token.${readToken()}`])
  let opened = false
  socket.onopen = () => {
    opened = true
    connection.set('open')
    if (attempt > 0) for (const listener of reconnectListeners) listener()
  }
  socket.onmessage = (message) => dispatch(JSON.parse(String(message.data)) as ApiEvent)
  socket.onclose = () => {
    const next = opened ? 1 : attempt + 1
    if (!connection.isRefused) connection.set('lost')
    setTimeout(() => void tryAgain(next), Math.min(longestWait, 150 * 2 ** Math.min(next, 8)))
  }
}

/** Makes a call before it reopens the socket. A closed socket does not say whether the workbench is gone or refuses the token. */
async function tryAgain(attempt: number): Promise<void> {
  await post('workbench.get', {})
  if (!connection.isRefused) openSocket(attempt)
}

function dispatch(event: ApiEvent): void {
  for (const listener of listeners) listener(event)
}
