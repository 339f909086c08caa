import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { addonName, findRuntime, fusedName } from '../../runtime/places.mjs'
import { closeToOthers, descriptionName, findTrustProblem, hashOf, trustedAddon } from '../../runtime/trusted.mjs'
import { withSetupLock } from '../setup-lock.mjs'
import { say, showStep } from '../terminal.mjs'
import { runProbe } from './build-runtime.mjs'
import { compileFused, findCompiler } from './compiler.mjs'
import { recentFailure, rememberFailure } from './failures.mjs'

/** Failures are remembered per processor, because the operations are compiled for one. */
const what = () => fusedName()

/**
 * Compiles the engine's fused operations for this processor into the runtime's folder. Never fails: without them, the runtime's own
 * operations do the same more slowly, and a message says so.
 * @param {string} node the Node 24 that will load them
 * @returns {Promise<void>}
 */
export async function ensureFused(node) {
  const runtime = findRuntime()
  const compiler = findCompiler()
  if (!runtime || findTrustProblem(runtime.folder) || isInPlace(runtime.folder) || !compiler || recentFailure(what())) return
  try {
    await withSetupLock(async () => {
      if (!isInPlace(runtime.folder)) await provide(compiler, node, runtime.folder)
    })
  } catch (thrown) {
    const reason = /** @type {Error} */ (thrown).message
    rememberFailure(what(), reason)
    say(`The fused operations could not be compiled: ${reason} TensorFlow's own do the same at about half the speed.`)
  }
}

/** @param {string} folder */
function isInPlace(folder) {
  return trustedAddon(folder, fusedName()) !== undefined
}

/**
 * @param {string} compiler
 * @param {string} node
 * @param {string} folder
 */
function provide(compiler, node, folder) {
  return showStep('Compiling fused operations for this processor', async () => {
    const path = await compileFused(compiler, folder)
    const { wrong } = await runProbe(node, [join(folder, addonName), path])
    if (!wrong) return recordHash(folder, path)
    rmSync(path, { force: true })
    throw new Error(`they do not run on this machine: ${wrong}`)
  })
}

/**
 * Adds the hash of the compiled file to the runtime's description. No other file of this name will be loaded.
 * @param {string} folder
 * @param {string} path
 */
function recordHash(folder, path) {
  closeToOthers(folder)
  const descriptionPath = join(folder, descriptionName)
  const description = JSON.parse(readFileSync(descriptionPath, 'utf8'))
  const addons = { ...description.addons, [fusedName()]: hashOf(path) }
  writeFileSync(`${descriptionPath}.part`, `${JSON.stringify({ ...description, addons }, null, 2)}\n`)
  renameSync(`${descriptionPath}.part`, descriptionPath)
}
