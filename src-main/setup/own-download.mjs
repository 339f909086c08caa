import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { arch, env, platform } from 'node:process'
import { finishRuntime, tryRuntime } from './build-runtime.mjs'
import { bindingPackage } from './compiler.mjs'
import { root } from './node24.mjs'
import { addonName, runtimesFolder } from './places.mjs'
import { folderSize } from './python.mjs'
import { formatBytes, showStep } from './terminal.mjs'
import { runTool } from './tools.mjs'

/** The TensorFlow that the package's own script brings. */
const version = '2.9.1'

/** How long the first byte may take: where the storage cannot be reached nothing else would tell. */
const patienceSeconds = 15

/**
 * Whether the package's makers have built it for this system.
 * @returns {boolean}
 */
export function hasOwnDownload() {
  return arch === 'x64' && (platform === 'linux' || platform === 'win32' || platform === 'darwin')
}

/**
 * Lets the tfjs package's own script bring an older TensorFlow and a compiled addon, where one cannot be built here.
 * @param {string} node
 * @returns {Promise<string>} the folder
 */
export async function downloadOwn(node) {
  const deps = join(bindingPackage, 'deps')
  const built = join(bindingPackage, 'lib')
  try {
    await showStep(`Trying the package's own TensorFlow ${version}`, (report) => runInstallScript(node, deps, report))
    const work = join(runtimesFolder(), `.own-${process.pid}`)
    collect(deps, built, work)
    await tryRuntime(node, work)
    return await finishRuntime(work, { version, kind: 'cpu', source: `tfjs-node-gpu's own download of TensorFlow ${version}` })
  } finally {
    for (const folder of [deps, built]) rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * @param {string} node
 * @param {string} deps
 * @param {(note: string) => void} report
 */
async function runInstallScript(node, deps, report) {
  const stop = new AbortController()
  const began = performance.now()
  const watch = setInterval(() => {
    const bytes = existsSync(deps) ? folderSize(deps) : 0
    report(formatBytes(bytes))
    if (bytes === 0 && performance.now() - began > patienceSeconds * 1000) stop.abort()
  }, 500)
  const path = `${join(root, 'node_modules', '.bin')}${delimiter}${env.PATH ?? env.Path}`
  const settings = { cwd: bindingPackage, env: { ...env, PATH: path }, seconds: 900, signal: stop.signal }
  const { code } = await runTool(node, ['scripts/install.js', 'cpu', 'download'], settings)
  clearInterval(watch)
  if (stop.signal.aborted) throw new Error(`nothing came within ${patienceSeconds} seconds.`)
  if (code !== 0) throw new Error('its storage could not be reached.')
}

/**
 * Puts what the script left into a runtime's layout.
 * @param {string} deps
 * @param {string} built
 * @param {string} work
 */
function collect(deps, built, work) {
  const addon = readdirSync(built, { recursive: true, encoding: 'utf8' }).find((path) => path.endsWith(addonName))
  if (!addon) throw new Error('it brought no compiled addon.')
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work, { recursive: true })
  const libraries = platform === 'win32' ? work : join(work, 'lib')
  mkdirSync(libraries, { recursive: true })
  for (const name of readdirSync(join(deps, 'lib'))) renameSync(join(deps, 'lib', name), join(libraries, name))
  writeFileSync(join(work, addonName), shortenRunPath(readFileSync(join(built, addon))), { mode: 0o755 })
}

/**
 * The package's addon looks for its libraries two folders up; in a runtime's folder they stand beside it.
 * @param {Buffer} addon an ELF file
 * @returns {Buffer} the same length
 */
export function shortenRunPath(addon) {
  const before = '$ORIGIN/../../deps/lib'
  const at = addon.indexOf(`${before}\0`)
  if (at < 0) return addon
  const changed = Buffer.from(addon)
  changed.write('$ORIGIN/lib'.padEnd(before.length, '\0'), at, 'latin1')
  return changed
}
