import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { arch, platform } from 'node:process'
import { findGgml } from '../../runtime/ggml.mjs'
import { packagedNode, root } from '../../runtime/node24.mjs'
import { findOpenblas } from '../../runtime/openblas.mjs'
import { ensureGgml, vulkanPackages } from '../ggml.mjs'
import { ensureOpenblas } from '../openblas.mjs'
import { writeArchive } from './archive.mjs'
import { archiveFiles, computeFiles } from './contents.mjs'
import { setFuses, shippedFuses } from './fuses.mjs'

export const description = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Electron's files that Espalier never uses: its default application, and every language but that of Espalier's own text. */
const unused = (/** @type {string} */ path) =>
  /default_app\.asar$/.test(path) || (/[\\/]locales[\\/]/.test(path) && !path.endsWith('en-US.pak'))

/**
 * Puts a program together that runs from its own folder: Electron, the archive of the main process, and beside it what the compute process
 * runs, as files, with the Node that it runs on.
 * @param {string} target the folder to make
 * @param {string} electron the folder of an unpacked Electron
 * @param {(files: Map<string, Buffer>) => Promise<void> | void} [adapt] may change what the archive holds
 */
export async function packFolder(target, electron, adapt) {
  rmSync(target, { recursive: true, force: true })
  cpSync(electron, target, { recursive: true, filter: (path) => !unused(path) })
  renameSync(join(target, 'electron'), join(target, 'espalier'))
  if (existsSync(join(target, 'LICENSE'))) renameSync(join(target, 'LICENSE'), join(target, 'LICENSE.electron.txt'))
  setFuses(join(target, 'espalier'), shippedFuses)
  const resources = join(target, 'resources')
  rmSync(resources, { recursive: true, force: true })
  const files = new Map([...(await archiveFiles())].map((path) => [path, readFileSync(join(root, path))]))
  files.set('package.json', Buffer.from(JSON.stringify(shippedDescription())))
  await adapt?.(files)
  writeArchive(join(resources, 'app.asar'), files)
  await copyCompute(resources)
  mkdirSync(join(resources, 'node'))
  cpSync(packagedNode(), join(resources, 'node', basename(packagedNode())))
  for (const name of ['LICENSE', 'NOTICE']) cpSync(join(root, name), join(target, name))
}

/** What Electron and the program read of package.json. */
function shippedDescription() {
  const { name, version, description: text, license, type, main } = description
  return { name, productName: 'Espalier', version, description: text, license, type, main }
}

/**
 * Copies what the compute process runs, with the libraries of ggml and OpenBLAS where the program looks for them.
 * @param {string} resources
 */
export async function copyCompute(resources) {
  const target = join(resources, 'compute')
  for (const path of [...(await computeFiles()), 'package.json']) {
    mkdirSync(dirname(join(target, path)), { recursive: true })
    cpSync(realpathSync(join(root, path)), join(target, path))
  }
  copyLibraries(target)
}

/** Installs what `copyLibraries` copies, with the library for Vulkan: users may have a GPU that this machine lacks. */
export async function ensureShippedLibraries() {
  await ensureGgml()
  await ensureOpenblas()
  if (Object.hasOwn(vulkanPackages, `${platform}-${arch}`)) await ensureGgml(vulkanPackages, 'ggml-vulkan')
}

/** @param {string} target */
export function copyLibraries(target) {
  for (const folder of [findGgml('ggml'), findGgml('ggml-vulkan'), findOpenblas()]) {
    if (folder) cpSync(folder, join(target, basename(folder)), { recursive: true })
  }
}

/** @param {string} folder @returns {number} bytes of all files in it */
export function sizeOf(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
}
