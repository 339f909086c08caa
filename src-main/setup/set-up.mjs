import { findNode24, missingNode24 } from '../runtime/node24.mjs'
import { ensureGgml, ensureVulkan } from './ggml.mjs'
import { ensureOpenblas } from './openblas.mjs'
import { ensurePackages } from './packages.mjs'
import { ensureBundle } from './screens.mjs'
import { ensureRuntime } from './tensorflow/runtime.mjs'
import { say } from './terminal.mjs'

/**
 * Installs what is missing before anything else can run: the npm packages, ggml and a tensor runtime.
 * @returns {Promise<string>} the Node 24 that the rest runs on
 */
export async function setUp() {
  await ensurePackages()
  const node = findNode24()
  if (!node) throw new Error(missingNode24)
  await ensureGgml()
  await ensureVulkan()
  await ensureRuntime(node)
  await ensureOpenblas()
  return node
}

/**
 * Runs setup, then a command, and ends with the command's exit code. If either throws, prints the message and ends with 1.
 * @param {(node: string) => Promise<number>} command
 * @returns {Promise<void>}
 */
export async function runAfterSetUp(command) {
  try {
    const node = await setUp()
    process.exitCode = await command(node)
  } catch (thrown) {
    say(/** @type {Error} */ (thrown).message)
    process.exitCode = 1
  }
}

/**
 * Builds the screens for a command that does not show them, so that a failed build does not stop the command.
 * @param {string} node
 * @returns {Promise<void>}
 */
export async function tryScreens(node) {
  await ensureBundle(node, 'screens').catch((/** @type {Error} */ thrown) => say(thrown.message))
}
