import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execPath } from 'node:process'
import type { CallApi } from '#contract/api.ts'
import { parseAddress } from '#server/address.ts'
import { ensureBundle } from '../../src-main/setup/screens.mjs'

const root = join(import.meta.dirname, '../..')

/** The real program on a data folder of its own: `espalier serve` as a person starts it. */
export interface Workbench {
  address: string
  /** The address with its token, as printed. */
  printed: string
  call: CallApi
  readonly processId: number
  /** Ends the program as a crash would. */
  kill(): Promise<void>
  /** Starts it again on the same data, port and token. */
  restart(): Promise<void>
  close(): Promise<void>
}

/** `prepare` may fill the data folder before the program opens it. */
export async function startWorkbench({ prepare }: { prepare?: (dataFolder: string) => Promise<void> } = {}): Promise<Workbench> {
  await ensureBundle(execPath, 'screens')
  const folder = await mkdtemp(join(tmpdir(), 'espalier-e2e-'))
  await prepare?.(join(folder, 'data'))
  const start = () => serve(['--data', join(folder, 'data')])
  const started = await start()
  let { child } = started
  const { printed } = started
  const { address, token } = parseAddress(printed)
  return {
    address,
    printed,
    call: callOver(address, token),
    get processId() {
      return child.pid as number
    },
    kill: () => end(child, 'SIGKILL'),
    async restart() {
      child = (await start()).child
    },
    async close() {
      await end(child, 'SIGTERM')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The program once it has printed where it is; a later one on the same data has the same address. */
function serve(flags: string[]): Promise<{ child: ChildProcess; printed: string }> {
  const child = spawn(execPath, [join(root, 'src-main/cli/espalier.mjs'), 'serve', ...flags], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  return new Promise((resolve, reject) => {
    child.stderr?.on('data', (chunk) => {
      output += String(chunk)
    })
    child.stdout?.on('data', (chunk) => {
      output += String(chunk)
      const printed = /http:\S+#token=\S+(?=\n)/.exec(output)?.[0]
      if (printed) resolve({ child, printed })
    })
    child.once('exit', (code) => reject(new Error(`espalier serve ended with ${code}: ${output}`)))
  })
}

function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill(signal)
  })
}

function callOver(address: string, token: string): CallApi {
  const send = async (name: string, input: unknown): Promise<unknown> => {
    const response = await fetch(`${address}api/${name}`, {
      method: 'POST',
      // A test that blocks for seconds would otherwise use a connection that the server is closing.
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, connection: 'close' },
      body: JSON.stringify(input),
    })
    if (!response.ok) throw new Error(`${name}: ${await response.text()}`)
    return response.json()
  }
  return send as CallApi
}
