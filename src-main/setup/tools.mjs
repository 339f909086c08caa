import { spawn } from 'node:child_process'
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { constants as systemConstants } from 'node:os'
import { delimiter, join } from 'node:path'
import { env, execPath, platform, stderr, stdin, stdout } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { noteChild } from './setup-lock.mjs'

/**
 * Returns the path of a program, or undefined if it is not on PATH.
 * @param {string} name
 * @returns {string | undefined}
 */
export function findOnPath(name) {
  const endings = platform === 'win32' ? ['.exe', '.cmd', '.bat'] : ['']
  const folders = (env.PATH ?? env.Path ?? '').split(delimiter).filter(Boolean)
  return folders.flatMap((folder) => endings.map((ending) => join(folder, name + ending))).find(isProgram)
}

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/**
 * Runs a program to its end and captures its output. The code is 127 if the program cannot be started, and 124 if it ran out of time.
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, seconds?: number, onOutput?: (text: string) => void, signal?: AbortSignal }} [settings]
 * @returns {Promise<{ code: number, output: string }>}
 */
export function runTool(command, args, settings = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: settings.cwd ?? root,
      env: settings.env ?? env,
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
      signal: settings.signal,
      killSignal: 'SIGKILL',
    })
    const forget = noteChild(child.pid)
    let output = ''
    let isLate = false
    const keep = (/** @type {Buffer} */ chunk) => {
      const text = chunk.toString()
      output = (output + text).slice(-200_000)
      settings.onOutput?.(text)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const timer =
      settings.seconds &&
      setTimeout(() => {
        isLate = true
        child.kill('SIGKILL')
      }, settings.seconds * 1000)
    const end = (/** @type {number} */ code) => {
      clearTimeout(timer || undefined)
      forget()
      resolve({ code: isLate ? 124 : code, output })
    }
    child.on('error', (thrown) => {
      output += thrown.message
      end(127)
    })
    child.on('close', (code) => end(code ?? 1))
  })
}

/**
 * Runs a script with a Node in this terminal, forwards signals, and ends it when this process ends.
 * @param {string} node
 * @param {string[]} args the script and its arguments
 * @param {NodeJS.ProcessEnv} [environment]
 * @returns {Promise<number>} the exit code
 */
export function runScript(node, args, environment = env) {
  const watcher = new URL('./end-with-parent.mjs', import.meta.url).href
  const flags = ['--disable-warning=ExperimentalWarning', '--import', watcher]
  return runHere(node, [...flags, ...args], environment, 'ipc')
}

/**
 * Runs a program in this terminal, forwards signals, and returns its exit code.
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [environment]
 * @param {'ipc' | 'ignore'} [channel]
 * @returns {Promise<number>}
 */
export function runHere(command, args, environment = env, channel = 'ignore') {
  return new Promise((resolve) => {
    const child = spawn(command, args, { env: environment, stdio: ['inherit', 'inherit', 'inherit', channel] })
    const stopForwarding = forwardSignals(child)
    const end = (/** @type {number} */ code) => {
      stopForwarding()
      if (child.connected) child.disconnect()
      resolve(code)
    }
    child.on('error', (thrown) => {
      stderr.write(`${command} could not be started: ${thrown.message}\n`)
      end(127)
    })
    child.on('close', (code, signal) => end(code ?? 128 + (signal ? systemConstants.signals[signal] : 0)))
  })
}

/** @param {import('node:child_process').ChildProcess} child */
function forwardSignals(child) {
  // A terminal sends Ctrl-C to parent and child; forwarding would send it twice.
  const isInTerminal = stdin.isTTY || stdout.isTTY || stderr.isTTY
  /** @type {[NodeJS.Signals, () => void][]} */
  const handlers = [
    ['SIGINT', () => isInTerminal || child.kill('SIGINT')],
    ['SIGTERM', () => child.kill('SIGTERM')],
    ['SIGHUP', () => child.kill('SIGHUP')],
    // A cluster's scheduler sends this signal when time is nearly up.
    ...(platform === 'win32' ? [] : [/** @type {[NodeJS.Signals, () => void]} */ (['SIGUSR2', () => child.kill('SIGUSR2')])]),
  ]
  for (const [signal, handler] of handlers) process.on(signal, handler)
  return () => {
    for (const [signal, handler] of handlers) process.off(signal, handler)
  }
}

/**
 * Returns the file that an installed npm package runs as its command.
 * @param {string} name
 * @returns {string}
 */
export function commandOf(name) {
  const folder = join(root, 'node_modules', name)
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return join(folder, typeof bin === 'string' ? bin : bin[name.split('/').at(-1) ?? name])
}

/**
 * Returns npm as a program and its first arguments. npm runs on the Node it came with, because `npm ci` replaces the packaged one.
 * @returns {[string, string[]] | undefined}
 */
export function findNpm() {
  if (env.npm_execpath?.endsWith('.js')) return [env.npm_node_execpath ?? execPath, [env.npm_execpath]]
  const path = findOnPath('npm')
  return path && !path.endsWith('.cmd') ? [path, []] : undefined
}
