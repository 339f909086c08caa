import { existsSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { env, getuid, platform } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { say, showStep } from './terminal.mjs'
import { runHere, runTool } from './tools.mjs'

const electronPackage = join(root, 'node_modules', 'electron')

/** If Electron fails within this time, no window was opened. */
const failedStartSeconds = 5

/** @param {NodeJS.Signals[]} names */
const codesOf = (...names) => names.map((name) => 128 + constants.signals[name])

/** Exit codes of a window that the user closed, and of Chromium on a system that gives it no sandbox. */
const endedByUser = [0, ...codesOf('SIGINT', 'SIGTERM', 'SIGHUP')]
const withoutSandbox = codesOf('SIGTRAP', 'SIGABRT')

/** Chromium's own flag. Only the user may set it, because it removes the barrier around a flaw in the browser. */
export const noSandbox = '--no-sandbox'

const howWithoutSandbox = `To open one anyway: npm start -- ${noSandbox}. That removes the sandbox around the window's page, so a flaw in its browser engine would have all of your user's rights`

/**
 * Returns the reason why this machine cannot show a window; undefined if it can.
 * @param {string[]} args of `npm start`
 * @param {{ platform: NodeJS.Platform, env: NodeJS.ProcessEnv, userId: number | undefined }} [machine]
 * @returns {string | undefined}
 */
export function refuseWindow(args, machine = { platform, env, userId: getuid?.() }) {
  if (machine.platform !== 'linux') return undefined
  if (!machine.env.DISPLAY && !machine.env.WAYLAND_DISPLAY) return 'This machine has no display'
  if (machine.userId !== 0 || args.includes(noSandbox)) return undefined
  return `Root gets no window, because Electron's sandbox needs an ordinary user. ${howWithoutSandbox}`
}

/**
 * Returns the path of the Electron program that opens a window; undefined if this machine cannot show one, or has no Electron.
 * @param {string} node
 * @param {string[]} args
 * @returns {Promise<string | undefined>}
 */
export async function findElectron(node, args) {
  const refusal = refuseWindow(args)
  const found = refusal ? undefined : await ensureElectron(node)
  if (refusal) say(`${refusal}.`)
  if (!found) say('The workbench is served as a local page.')
  return found
}

/**
 * Returns the path of the Electron program: the one in `ELECTRON_OVERRIDE_DIST_PATH`, or that of its package, which downloads it.
 * @param {string} node
 * @returns {Promise<string | undefined>} undefined if it could not be downloaded
 */
export async function ensureElectron(node) {
  const found = installedElectron()
  if (found) return found
  try {
    await showStep('Downloading Electron', async () => {
      const { code } = await runTool(node, [join(electronPackage, 'install.js')], { seconds: 240 })
      if (code !== 0) throw new Error('Electron could not be downloaded.')
    })
  } catch (thrown) {
    say(/** @type {Error} */ (thrown).message)
  }
  return installedElectron()
}

function installedElectron() {
  const pathFile = join(electronPackage, 'path.txt')
  const name = existsSync(pathFile) ? readFileSync(pathFile, 'utf8') : 'electron'
  const program = join(env.ELECTRON_OVERRIDE_DIST_PATH ?? join(electronPackage, 'dist'), name)
  return existsSync(program) ? program : undefined
}

/**
 * @param {string} electron
 * @param {string[]} args
 * @returns {Promise<number | undefined>} its exit code, or undefined if it could not open a window
 */
export async function openWindow(electron, args) {
  const began = performance.now()
  const { ELECTRON_RUN_AS_NODE: _, ...environment } = env
  if (args.includes(noSandbox)) say(`${noSandbox}: the window's page runs without a sandbox.`)
  const code = await runHere(electron, [root, ...args], environment)
  if (endedByUser.includes(code) || performance.now() - began > failedStartSeconds * 1000) return code
  const needsAdvice = platform === 'linux' && withoutSandbox.includes(code) && !args.includes(noSandbox)
  const advice = needsAdvice ? ` ${howWithoutSandbox}.` : ''
  say(`Electron could not open a window.${advice} The workbench is served as a local page.`)
  return undefined
}
