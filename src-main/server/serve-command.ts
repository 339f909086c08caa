import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { z } from 'zod'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { readSmallJson } from '#runtime/small-file.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import { isLoopback } from '#server/guard/hosts.ts'
import { makeToken, readTokenFile } from '#server/guard/token.ts'
import { isInClear, printedAddress } from './address.ts'
import { askInTerminal } from './ask-in-terminal.ts'
import { leaveNote, removeNote } from './note.ts'
import { type RunningServer, startServer } from './server.ts'

export const serveHelp = `espalier serve [flags]

Serves the workbench as a web page on this machine and prints its address. Ctrl+C stops it; interrupted runs can be resumed.

  --port N             the port to listen on (default: the port of the last start if it is free, else any free port)
  --host NAME          the address to listen on (default: 127.0.0.1); all except loopback need --token-file
  --token-file FILE    a file with the token (default: a token that the first start makes and keeps in the data folder)
  --allow-host NAME    another name[:port] that this server accepts, such as a tunnel's or a proxy's; may be repeated
  --data FOLDER        the data folder (default: ESPALIER_HOME, else the system's application data folder)`

const flags = {
  port: { type: 'string' },
  host: { type: 'string', default: '127.0.0.1' },
  'token-file': { type: 'string' },
  'allow-host': { type: 'string', multiple: true, default: [] as string[] },
  data: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const

/** How often notes that could not be written are tried again. */
const rewriteMilliseconds = 2000

/** `espalier serve`: runs until it receives a signal. */
export async function runServeCommand(parameters: string[]): Promise<void> {
  const { values } = readFlags(parameters)
  if (values.help) return console.log(serveHelp)
  keepYoungGenerationSmall()
  const port = values.port === undefined ? undefined : readPort(values.port)
  const tokenFile = values['token-file']
  if (!isLoopback(values.host) && tokenFile === undefined) {
    throw new EspalierError(
      'usage',
      `--host ${values.host} makes the server reachable from other machines and needs --token-file FILE. It is better to stay on 127.0.0.1 and connect with "ssh -L PORT:127.0.0.1:PORT".`,
    )
  }
  const given = tokenFile === undefined ? undefined : await readTokenFile(tokenFile)
  const stopping = untilSignal()
  const { openWorkbench } = await import('#services/workbench.ts')
  const workbench = await openWorkbench({ folder: values.data, mayBegin: askInTerminal, signal: stopping }).catch((thrown: unknown) => {
    if (!stopping.aborted) throw thrown
  })
  // A start that waits for the history can be stopped too.
  if (!workbench) return
  try {
    const { dataFolder } = await workbench.call('settings.get', {})
    const kept = await readKeptDoor(dataFolder)
    const token = given ?? kept.token
    const settings = { door: workbench, pages: builtPath('renderer'), host: values.host, token, allowedHosts: values['allow-host'] }
    const server = await startServer({ ...settings, port: port ?? kept.port }).catch((thrown) => {
      if (port !== undefined || kept.port === 0) throw thrown
      return startServer({ ...settings, port: 0 })
    })
    const stopWriting = writeWhenPossible(() => {
      if (given === undefined) keepDoor(dataFolder, { port: server.port, token })
      leaveNote(dataFolder, { address: addressBy('127.0.0.1', server, values.host), token })
    })
    announce(addressBy(hostname(), server, values.host), token, tokenFile)
    if (!stopping.aborted) await once(stopping, 'abort')
    stopWriting()
    await removeNote(dataFolder)
    await server.close()
  } finally {
    await workbench.close()
  }
}

/**
 * V8 lets the young generation grow to 128 MB, even if hardly anything in it survives, so a server that is used for hours would seem to leak.
 * Unlike the size itself, the factor of its growth can be set in a process that has started.
 */
function keepYoungGenerationSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}

function readFlags(parameters: string[]) {
  try {
    return parseArgs({ args: parameters, options: flags, strict: true })
  } catch (thrown) {
    throw new EspalierError('usage', toErrorMessage(thrown).message)
  }
}

function readPort(text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new EspalierError('usage', `--port is "${text}"; it must be a whole number from 0 (any free port) to 65535.`)
  return port
}

/** Returns the address to show. For a server that listens on every interface, `name` is how others reach this machine. */
function addressBy(name: string, server: RunningServer, host: string): string {
  return host === '0.0.0.0' || host === '::' ? `http://${name}:${server.port}/` : server.address
}

function announce(address: string, token: string, tokenFile: string | undefined): void {
  if (isInClear(address)) {
    console.error(`Warning: ${address} is reachable from other machines, and traffic to it, including the token, is not encrypted.`)
  }
  if (!existsSync(builtPath('renderer', 'index.html')))
    console.error('The screens are not built yet, so only calls and events work. Build them with: npm run build')
  console.log(printedAddress({ address, token }))
  if (tokenFile !== undefined) console.error(`The token is the one in ${tokenFile}.`)
}

/** Tries again until `write` succeeds, for example on a full disk. The server works without its notes, only commands do not find it. */
function writeWhenPossible(write: () => void): () => void {
  let isTold = false
  const attempt = () => {
    try {
      write()
      clearInterval(timer)
    } catch (thrown) {
      if (!isTold) console.error(`${toErrorMessage(thrown).message} Until then, commands on this machine do not find this server.`)
      isTold = true
    }
  }
  const timer = setInterval(attempt, rewriteMilliseconds)
  attempt()
  return () => clearInterval(timer)
}

/** Aborted by the first termination signal; a second one exits at once. */
function untilSignal(): AbortSignal {
  const stopping = new AbortController()
  const end = () => {
    if (stopping.signal.aborted) process.exit(130)
    console.error('Stopping. Press Ctrl+C again to stop at once.')
    stopping.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Another handler may exit at once, but a server must close its history first.
    process.removeAllListeners(signal)
    process.on(signal, end)
  }
  return stopping.signal
}

/**
 * Returns the path of a built file or folder under `out` in the nearest ancestor that has it. This works for sources, for bundles and their
 * chunks, and inside a packed application. If nothing is built yet, returns the path where it would be.
 */
function builtPath(...names: string[]): string {
  const ancestors = ancestorsOf(import.meta.dirname)
  const found = ancestors.map((folder) => join(folder, 'out', ...names)).find((path) => existsSync(path))
  return found ?? join(ancestors.find((folder) => existsSync(join(folder, 'package.json'))) ?? '.', 'out', ...names)
}

function ancestorsOf(folder: string): string[] {
  const parent = dirname(folder)
  return parent === folder ? [folder] : [folder, ...ancestorsOf(parent)]
}

/** The last port and token of a data folder's servers, so that open pages reconnect after a restart. */
const keptDoor = z.object({ port: z.number().int().min(1).max(65_535), token: z.string().regex(/^[\w-]{43}$/) })

const fileIn = (dataFolder: string) => join(dataFolder, 'door.json')

/** Returns the stored values, or else a new token and port 0 (any). A file that others can read is not trusted. */
async function readKeptDoor(dataFolder: string): Promise<{ port: number; token: string }> {
  const file = fileIn(dataFolder)
  const mode = (await stat(file).catch(() => undefined))?.mode ?? 0
  const isClosed = process.platform === 'win32' || (mode & 0o077) === 0
  return (isClosed ? await readSmallJson(keptDoor, file) : undefined) ?? { port: 0, token: makeToken() }
}

function keepDoor(dataFolder: string, door: z.infer<typeof keptDoor>): void {
  writeWhole(fileIn(dataFolder), JSON.stringify(door))
}
