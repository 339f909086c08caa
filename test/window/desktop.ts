import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { eventually } from '../eventually.ts'

/** A screen of its own with a window manager and a message bus, so that test files do not take each other's focus. */
export interface Desktop {
  /** The variables that let a program use it. */
  environment: { DISPLAY: string; DBUS_SESSION_BUS_ADDRESS: string; XDG_CURRENT_DESKTOP: string; XDG_SESSION_TYPE: string }
  /** Runs a program on it and returns its output, for instance `xdotool key Return`. Throws if it fails. */
  run(program: string, ...args: string[]): Promise<string>
  close(): Promise<void>
}

let desktops = 0

export async function startDesktop(size = '1600x1000'): Promise<Desktop> {
  const started: ChildProcess[] = []
  const start = (program: string, args: string[], environment: NodeJS.ProcessEnv = process.env) => {
    const child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'ignore'] })
    started.push(child)
    return child
  }
  // A number of its own: two servers that look for a free one at the same time may take the same.
  const number = 100 + 10 * (process.pid % 5000) + (desktops++ % 10)
  // Without `-noreset`, the screen drops every client when the last one leaves: a quick `xprop` would take the window manager with it.
  const screen = [`:${number}`, '-displayfd', '1', '-screen', '0', `${size}x24`, '-nolisten', 'tcp', '-noreset']
  const display = `:${await firstLine(start('Xvfb', screen))}`
  const bus = await firstLine(start('dbus-daemon', ['--session', '--nofork', '--print-address=1']))
  const environment = { DISPLAY: display, DBUS_SESSION_BUS_ADDRESS: bus, XDG_CURRENT_DESKTOP: 'GNOME', XDG_SESSION_TYPE: 'x11' }
  const everything = { ...process.env, ...environment }
  start('openbox', ['--sm-disable'], everything)
  const run = async (program: string, ...args: string[]) => {
    const child = spawn(program, args, { env: everything, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text))
    const [code] = await once(child, 'close')
    if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}: ${output}`)
    return output
  }
  const isManaged = async () => (await run('xprop', '-root', '_NET_SUPPORTING_WM_CHECK')).includes('window id')
  await eventually(isManaged, 'the window manager')
  return {
    environment,
    run,
    async close() {
      for (const child of started.reverse()) await end(child)
    },
  }
}

/** The ids of all windows that can be seen. */
export async function visibleWindows({ run }: Desktop): Promise<string[]> {
  // It ends with 1 if there is none.
  const found = await run('xdotool', 'search', '--onlyvisible', '--name', '.').catch(() => '')
  return found.split('\n').filter(Boolean)
}

/** Does something that opens a window of the system's beside the program's, and returns its id. */
export async function openedBy(desktop: Desktop, action: () => Promise<unknown>): Promise<string> {
  const before = await eventually(
    () => visibleWindows(desktop),
    (windows) => windows.length > 0,
  )
  await action()
  return eventually(async () => (await visibleWindows(desktop)).find((id) => !before.includes(id)), 'another window')
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) return line
  throw new Error(`${child.spawnfile} ended before it said where it is.`)
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill()
  await ended
}
