import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { env, platform } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { withSetupLock } from './setup-lock.mjs'
import { showStep } from './terminal.mjs'
import { findNpm, runTool } from './tools.mjs'

/**
 * A package as a lock file lists it.
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, devOptional?: boolean, link?: boolean }} LockedPackage
 */

/**
 * Installs the npm packages from the lock file if they are missing or differ from it. Throws if npm fails.
 * @param {string} [folder] the checkout
 * @returns {Promise<void>}
 */
export async function ensurePackages(folder = root) {
  if (arePackagesCurrent(folder)) return
  await withSetupLock(async () => {
    if (!arePackagesCurrent(folder)) await installPackages(folder)
  })
}

/**
 * Whether node_modules matches the lock file. A stamp answers at once; without one, npm's own list of installed packages is compared.
 * @param {string} folder
 * @returns {boolean}
 */
export function arePackagesCurrent(folder) {
  const lockText = readFileSync(join(folder, 'package-lock.json'), 'utf8')
  const stamp = createHash('sha256').update(lockText).digest('hex')
  const stampPath = join(folder, 'node_modules', '.espalier-lock')
  if (readText(stampPath) === stamp) return true
  const installed = readText(join(folder, 'node_modules', '.package-lock.json'))
  if (!installed || !matchesLock(JSON.parse(lockText).packages, JSON.parse(installed).packages)) return false
  writeFileSync(stampPath, stamp)
  return true
}

/**
 * @param {Record<string, LockedPackage>} locked
 * @param {Record<string, LockedPackage>} installed
 * @returns {boolean}
 */
export function matchesLock(locked, installed) {
  return Object.entries(locked).every(([path, wanted]) => {
    const found = installed[path]
    // npm omits optional packages for other platforms.
    if (path === '' || wanted.link) return true
    if (!found) return wanted.optional === true || wanted.devOptional === true
    return found.version === wanted.version && found.integrity === wanted.integrity
  })
}

/** @param {string} path */
function readText(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined
}

/** @param {string} folder */
async function installPackages(folder) {
  const npm = findNpm()
  if (!npm) throw new Error('npm was not found. Install a Node that includes npm, and run the same command again.')
  const [command, first] = npm
  // A killed npm leaves packages out. Without these two files, node_modules is not considered complete.
  for (const name of ['.espalier-lock', '.package-lock.json']) rmSync(join(folder, 'node_modules', name), { force: true })
  // `npm ci` would delete the running Node, which Windows refuses.
  const verb = platform === 'win32' ? 'install' : 'ci'
  await showStep('Installing the npm packages of the lock file', async (report) => {
    const watch = setInterval(() => report(`${countFolders(folder)} folders`), 500)
    const { code, output } = await runTool(command, [...first, verb, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: folder,
      env: withoutNodeModules(env, folder),
    })
    clearInterval(watch)
    if (code !== 0) throw new Error(`npm could not install the packages:\n${output.trim()}`)
    const installed = readText(join(folder, 'node_modules', '.package-lock.json'))
    report(`${Object.keys(installed ? JSON.parse(installed).packages : {}).length} packages`)
  })
  if (!arePackagesCurrent(folder))
    throw new Error('npm installed packages that differ from package-lock.json. Run `npm install` and check what it changes.')
}

/**
 * Has npm install one package in a folder of its own, from a lock file, so that npm checks its hash. The user's npm configuration applies.
 * Throws if npm fails.
 * @param {{ name: string, version: string, integrity: string }} wanted
 * @param {string} folder
 * @returns {Promise<string>} the package's folder
 */
export async function installLocked({ name, version, integrity }, folder) {
  const npm = findNpm()
  if (!npm) throw new Error('npm was not found. Install a Node that includes npm.')
  const dependencies = { [name]: version }
  const locked = { '': { dependencies }, [`node_modules/${name}`]: { version, integrity } }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }))
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, requires: true, packages: locked }))
  const npmFlags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error', '--fetch-retries=1']
  const [command, leadingArguments] = npm
  const { code, output } = await runTool(command, [...leadingArguments, 'ci', ...npmFlags], { cwd: folder })
  if (code !== 0) throw new Error(`npm could not install ${name} ${version}.\n${output.trim()}`)
  return join(folder, 'node_modules', name)
}

/**
 * Returns the environment for npm without this checkout's programs, because npm's scripts would run on the packaged Node that is replaced.
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} folder
 */
function withoutNodeModules(environment, folder) {
  const ours = join(folder, 'node_modules', '.bin')
  const separator = platform === 'win32' ? ';' : ':'
  const path = (environment.PATH ?? '').split(separator).filter((one) => one !== ours)
  return { ...environment, PATH: path.join(separator) }
}

/** @param {string} folder */
function countFolders(folder) {
  const modules = join(folder, 'node_modules')
  return existsSync(modules) ? readdirSync(modules).filter((name) => !name.startsWith('.')).length : 0
}
