import { findNode24, missingNode24 } from '../runtime/node24.mjs'
import { ensurePackages } from './packages.mjs'
import { ensureBundle } from './screens.mjs'
import { ensureRuntime } from './tensorflow/runtime.mjs'
import { say } from './terminal.mjs'

/**
 * Everything that must stand before the rest can run: npm packages, tensor runtime, built screens. Does only what is missing.
 * @returns {Promise<string>} the Node 24 that the rest runs on
 */
export async function setUp() {
  await ensurePackages()
  const node = findNode24()
  if (!node) throw new Error(missingNode24)
  await ensureRuntime(node)
  return node
}

/**
 * Set-up, the screens, then a command; what went wrong is said in a sentence, and the exit code is the command's.
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
 * The screens where a failed build must not stop what does not show them.
 * @param {string} node
 * @returns {Promise<void>}
 */
export async function tryScreens(node) {
  await ensureBundle(node, 'screens').catch((/** @type {Error} */ thrown) => say(thrown.message))
}
