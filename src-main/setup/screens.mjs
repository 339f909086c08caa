import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { env } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { showStep } from './terminal.mjs'
import { commandOf, runTool } from './tools.mjs'

/** The sources of each bundle, and a file that its build must produce. */
const bundles = {
  screens: {
    sources: ['src-renderer', 'src-main/contract', 'docs', 'README.md', 'electron.vite.config.ts', 'package-lock.json'],
    result: 'renderer/index.html',
  },
  window: { sources: ['src-main', 'package.json', 'electron.vite.config.ts', 'package-lock.json'], result: 'main/window.js' },
}

/**
 * Builds the screens, or the window's own code, if their sources have changed since the last build. Throws if the build fails.
 * @param {string} node
 * @param {keyof typeof bundles} name
 * @returns {Promise<void>}
 */
export async function ensureBundle(node, name) {
  const { sources, result } = bundles[name]
  if (!existsSync(join(root, 'src-renderer', 'index.html'))) return
  const stampPath = join(root, 'out', `.${name}`)
  const stamp = digestOf(sources)
  if (existsSync(join(root, 'out', result)) && existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp) return
  await showStep(name === 'screens' ? 'Building the screens' : 'Building the window', async () => {
    const environment = { ...env, ESPALIER_BUILD: name }
    const { code, output } = await runTool(node, [commandOf('electron-vite'), 'build', '--logLevel', 'warn'], { env: environment })
    if (code !== 0) throw new Error(`The ${name} could not be built:\n${output.trim()}`)
  })
  mkdirSync(join(root, 'out'), { recursive: true })
  writeFileSync(stampPath, stamp)
}

/**
 * Hashes the names, sizes and times of the sources, because reading their content would take too long.
 * @param {string[]} sources
 * @returns {string}
 */
function digestOf(sources) {
  const hash = createHash('sha256')
  for (const source of sources) addTo(hash, source)
  return hash.digest('hex')
}

/** @param {import('node:crypto').Hash} hash @param {string} path */
function addTo(hash, path) {
  const status = statSync(join(root, path), { throwIfNoEntry: false })
  if (!status?.isDirectory()) hash.update(`${path} ${status?.size} ${status?.mtimeMs}\n`)
  else for (const name of readdirSync(join(root, path)).sort()) addTo(hash, `${path}/${name}`)
}
