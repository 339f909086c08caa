import * as fs from 'node:fs'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { arch, platform } from 'node:process'
import { fileURLToPath } from 'node:url'
import { addonName, runtimeName, runtimesFolder } from '../../runtime/places.mjs'
import { closeToOthers, descriptionName } from '../../runtime/trusted.mjs'
import { formatBytes, showStep } from '../terminal.mjs'
import { runTool } from '../tools.mjs'
import { bindingPackage, compileAddon } from './compiler.mjs'
import { DownloadFailed, downloadWheels, folderSize } from './python.mjs'
import { listWheel, unpackWheel, wheelPatterns } from './wheel.mjs'
import { checkWheel, hashFile } from './wheels.mjs'

/**
 * The content of `runtime.json`. Sizes are checked at every start, hashes of native addons when they are loaded. `addons` were compiled
 * later.
 * @typedef {{ name: string, version: string, kind: 'gpu' | 'cpu', platform: string, arch: string, binding: string, source: string,
 *   builtAt: string, files: { path: string, size: number, sha256: string }[], addons?: Record<string, string> }} RuntimeDescription
 */

/**
 * The programs that a build needs.
 * @typedef {{ pip: import('./python.mjs').Pip, compiler: string, node: string, strip: string | undefined }} Toolbox
 */

/** Folder of the headers in a TensorFlow wheel. */
const headersInWheel = join('tensorflow', 'include')

/** A finished build does not run on this machine, so retrying would not help. */
export class RuntimeDoesNotRun extends Error {}

/**
 * Returns the folder where a runtime is built. After setup was killed, the next setup finds the finished parts in it.
 * @param {'gpu' | 'cpu'} kind
 * @returns {string}
 */
export function workFolder(kind) {
  return join(runtimesFolder(), `.building-${kind}-${platform}-${arch}`)
}

/**
 * Builds a runtime in the cache folder. Reuses finished parts of a killed attempt. The folder is renamed when it is complete.
 * @param {import('./runtime-plan.mjs').Build} build
 * @param {Toolbox} tools
 * @returns {Promise<string>} the folder
 */
export async function buildRuntime(build, tools) {
  const work = workFolder(build.kind)
  mkdirSync(join(work, 'wheels'), { recursive: true })
  refuseFullDisk(work, build.bytes)
  await fetchWheels(build, tools.pip, work)
  const { version, libraries } = await unpack(build, tools, work)
  if (!existsSync(join(work, addonName))) {
    const parts = { folder: work, headers: join(work, 'headers', headersInWheel), libraries }
    await showStep('Compiling the TensorFlow binding', () => compileAddon(tools.compiler, parts))
  }
  await tryRuntime(tools.node, work)
  for (const name of ['wheels', 'headers', 'whole', 'temporary']) rmSync(join(work, name), { recursive: true, force: true })
  return finishRuntime(work, { version, kind: build.kind, source: `${wheelOf(build)} ${version}` })
}

/** @param {string} work @param {number} needed */
function refuseFullDisk(work, needed) {
  const disk = fs.statfsSync(work)
  const free = disk.bavail * disk.bsize + folderSize(work)
  if (free < needed) throw new Error(`${work} temporarily needs ${formatBytes(needed)}, but the disk has ${formatBytes(free)} free.`)
}

/** @param {import('./runtime-plan.mjs').Build} build */
function wheelOf(build) {
  const file = Object.keys(build.wheels).find((name) => name.startsWith('tensorflow'))
  if (!file) throw new Error('No TensorFlow wheel is pinned for this build.')
  return file
}

/**
 * Downloads the missing wheels. Only pinned ones are accepted.
 * @param {import('./runtime-plan.mjs').Build} build
 * @param {import('./python.mjs').Pip} pip
 * @param {string} work
 */
async function fetchWheels({ wheels }, pip, work) {
  const folder = join(work, 'wheels')
  const missing = Object.keys(wheels).filter((file) => !existsSync(join(folder, file)))
  if (missing.length > 0) {
    const temporary = join(work, 'temporary')
    rmSync(temporary, { recursive: true, force: true })
    mkdirSync(temporary)
    const before = folderSize(folder)
    await showStep(missing.length > 1 ? "Downloading TensorFlow and NVIDIA's libraries" : 'Downloading TensorFlow', async (report) => {
      const onBytes = (/** @type {number} */ bytes, /** @type {number} */ total) =>
        report(total ? `${formatBytes(Math.min(bytes, total))} of ${formatBytes(total)}` : formatBytes(bytes))
      await downloadWheels(pip, Object.fromEntries(missing.map((file) => [file, wheels[file] ?? ''])), folder, { temporary, onBytes })
      report(formatBytes(folderSize(folder) - before))
    })
  }
  for (const file of Object.keys(wheels)) await checkWheel(join(folder, file), wheels)
}

/**
 * Extracts the few needed files from the wheels. If a wheel is damaged, it and everything extracted from it are deleted.
 * @param {import('./runtime-plan.mjs').Build} build
 * @param {Toolbox} tools
 * @param {string} work
 * @returns {Promise<{ version: string, libraries: string[] }>}
 */
async function unpack(build, tools, work) {
  const python = tools.pip.command
  const file = wheelOf(build)
  const wheel = join(work, 'wheels', file)
  try {
    const files = await listWheel(python, wheel, wheelPatterns.libraries)
    if (files.length < 2) throw new Error(`${wheel} has no C library of TensorFlow.`)
    const headers = join(work, 'headers')
    rmSync(headers, { recursive: true, force: true })
    await unpackWheel(python, wheel, wheelPatterns.headers, headers)
    if (!existsSync(join(headers, headersInWheel))) throw new Error(`${wheel} has no headers of TensorFlow.`)
    await unpackLibraries(wheel, files, work, tools)
    await addCuda(Object.keys(build.wheels), work, python)
    return { version: versionOf(file), libraries: files.map(({ name }) => join(work, 'lib', basename(name))) }
  } catch (thrown) {
    if (!(thrown instanceof DownloadFailed)) rmSync(work, { recursive: true, force: true })
    throw thrown
  }
}

/** @param {string} file the name of a wheel */
function versionOf(file) {
  return file.split('-')[1] ?? ''
}

/**
 * @param {string} wheel
 * @param {{ name: string, size: number }[]} files
 * @param {string} work
 * @param {Toolbox} tools
 */
async function unpackLibraries(wheel, files, work, { pip, strip }) {
  const missing = files.filter(({ name }) => !existsSync(join(work, 'lib', basename(name))))
  if (missing.length === 0) return
  mkdirSync(join(work, 'lib'), { recursive: true })
  const total = files.reduce((sum, { size }) => sum + size, 0)
  await showStep(strip ? 'Unpacking and stripping its two libraries' : 'Unpacking its two libraries', async (report) => {
    const whole = emptyFolder(work)
    let done = 0
    await unpackWheel(pip.command, wheel, wheelPatterns.libraries, whole, (bytes) => {
      done += bytes
      report(`${formatBytes(Math.min(done, total))} of ${formatBytes(total)}`)
    })
    let kept = 0
    for (const { name } of missing) {
      const target = join(work, 'lib', basename(name))
      await stripInto(strip, join(whole, name), target)
      kept += statSync(target).size
    }
    report(`${formatBytes(kept)} kept of ${formatBytes(total)}`)
  })
}

/**
 * Makes an empty folder for unpacking. Files are moved out of it when they are complete.
 * @param {string} work
 */
function emptyFolder(work) {
  const folder = join(work, 'whole')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  return folder
}

/** @param {string | undefined} strip @param {string} whole @param {string} target */
async function stripInto(strip, whole, target) {
  const partial = `${target}.part`
  const isStripped = strip && (await runTool(strip, ['--strip-unneeded', '-o', partial, whole])).code === 0
  renameSync(isStripped ? partial : whole, target)
  rmSync(whole, { force: true })
}

/**
 * Adds NVIDIA's libraries in a folder beside `lib/`, where TensorFlow's run path looks for them.
 * @param {string[]} files wheels of the build
 * @param {string} work
 * @param {string} python
 */
async function addCuda(files, work, python) {
  const companions = files.filter((name) => name.startsWith('nvidia'))
  if (companions.length === 0) return
  await showStep("Unpacking NVIDIA's libraries", async (report) => {
    let done = 0
    const onBytes = (/** @type {number} */ bytes) => {
      done += bytes
      report(formatBytes(done))
    }
    for (const companion of companions) {
      const wheel = join(work, 'wheels', companion)
      const wanted = await listWheel(python, wheel, wheelPatterns.cuda)
      if (wanted.every(({ name }) => existsSync(join(work, name)))) continue
      const whole = emptyFolder(work)
      await unpackWheel(python, wheel, wheelPatterns.cuda, whole, onBytes)
      for (const { name } of wanted) {
        if (name.includes('/bin/')) fs.chmodSync(join(whole, name), 0o755)
        mkdirSync(dirname(join(work, name)), { recursive: true })
        renameSync(join(whole, name), join(work, name))
      }
    }
  })
}

/**
 * @param {string} node
 * @param {string} folder
 */
export async function tryRuntime(node, folder) {
  await showStep('Testing a known product', async (report) => {
    const { wrong, usesGpu } = await runProbe(node, [join(folder, addonName)])
    if (wrong) {
      rmSync(folder, { recursive: true, force: true })
      throw new RuntimeDoesNotRun(`it does not run on this machine: ${wrong}`)
    }
    report(usesGpu ? 'correct, on the GPU' : 'correct, on the CPU')
  })
}

/**
 * Loads addons in a separate process and runs a known computation.
 * @param {string} node
 * @param {string[]} addons the binding and, with it, the fused operations
 * @returns {Promise<{ wrong?: string, usesGpu: boolean }>}
 */
export async function runProbe(node, addons) {
  const probe = fileURLToPath(new URL('./probe.mjs', import.meta.url))
  const environment = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2', TF_FORCE_GPU_ALLOW_GROWTH: 'true' }
  const { code, output } = await runTool(node, [probe, ...addons], { env: environment, seconds: 180 })
  const usesGpu = output.includes('"usesGpu":true')
  return code === 0 ? { usesGpu } : { wrong: lastLine(output) ?? `its process ended with code ${code}`, usesGpu }
}

/** @param {string} output */
function lastLine(output) {
  const lines = output.split('\n').filter((line) => /error|illegal|cannot|undefined symbol/i.test(line))
  return lines.at(0)?.trim()
}

/**
 * Writes the description, then renames the folder, replacing an earlier one.
 * @param {string} work
 * @param {{ version: string, kind: 'gpu' | 'cpu', source: string }} facts
 * @returns {Promise<string>}
 */
export async function finishRuntime(work, { version, kind, source }) {
  const name = runtimeName(version, kind)
  const files = await Promise.all(
    listFiles(work).map(async (path) => ({ path, size: statSync(join(work, path)).size, sha256: await hashFile(join(work, path)) })),
  )
  /** @type {RuntimeDescription} */
  const description = { name, version, kind, platform, arch, binding: bindingVersion(), source, builtAt: new Date().toISOString(), files }
  writeFileSync(join(work, descriptionName), `${JSON.stringify(description, null, 2)}\n`)
  const folder = join(runtimesFolder(), name)
  const aside = join(runtimesFolder(), `.old-${process.pid}`)
  if (existsSync(folder)) renameSync(folder, aside)
  renameSync(work, folder)
  closeToOthers(folder)
  rmSync(aside, { recursive: true, force: true })
  return folder
}

/**
 * The version of the package from which the addon was compiled.
 * @returns {string}
 */
export function bindingVersion() {
  return JSON.parse(readFileSync(join(bindingPackage, 'package.json'), 'utf8')).version
}

/**
 * @param {string} folder
 * @param {string} [inside]
 * @returns {string[]} paths with `/`, without the description
 */
function listFiles(folder, inside = '') {
  return readdirSync(join(folder, inside), { withFileTypes: true }).flatMap((one) => {
    const path = inside ? `${inside}/${one.name}` : one.name
    if (one.isDirectory()) return listFiles(folder, path)
    return path === descriptionName ? [] : [path]
  })
}
