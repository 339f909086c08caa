import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { env, getuid, platform } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { say, showStep } from './terminal.mjs'
import { runHere, runTool } from './tools.mjs'

const electronPackage = join(root, 'node_modules', 'electron')

/** If Electron fails within this time, no window was opened. */
const failedStartSeconds = 5

/**
 * Why this machine cannot show a window, in words; undefined if it can.
 * @param {{ platform: NodeJS.Platform, env: NodeJS.ProcessEnv, userId: number | undefined }} [machine]
 * @returns {string | undefined}
 */
export function refuseWindow(machine = { platform, env, userId: getuid?.() }) {
  if (machine.platform !== 'linux') return undefined
  if (!machine.env.DISPLAY && !machine.env.WAYLAND_DISPLAY) return 'There is no display here'
  return machine.userId === 0 ? 'Electron opens no window for root' : undefined
}

/**
 * The Electron program. If it is missing and this machine has a display, its package downloads it.
 * @param {string} node
 * @returns {Promise<string | undefined>}
 */
export async function findElectron(node) {
  const refusal = refuseWindow()
  if (refusal) {
    say(`${refusal}: the workbench is served as a local page.`)
    return undefined
  }
  const found = installedElectron()
  if (found) return found
  try {
    await showStep('Downloading Electron', async () => {
      const { code } = await runTool(node, [join(electronPackage, 'install.js')], { seconds: 240 })
      if (code !== 0) throw new Error('Electron could not be downloaded: the workbench is served as a local page.')
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
  const code = await runHere(electron, [root, ...args], environment)
  if (code === 0 || code >= 128 || performance.now() - began > failedStartSeconds * 1000) return code
  say('Electron could not open a window: the workbench is served as a local page.')
  return undefined
}
