import { existsSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative, sep } from 'node:path'
import { arch, platform } from 'node:process'
import { rolldown } from 'rolldown'
import { root } from '../../runtime/node24.mjs'

/** What the compute process loads by name at run time, which its imports do not show. */
const loadedByName = [
  'koffi',
  '@tensorflow/tfjs-backend-cpu',
  '@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js',
  '@tensorflow/tfjs-node-gpu/dist/register_all_kernels.js',
]

/** Packages that choose a compiled addon by a name they put together: their files for this system. */
const compiled = {
  'better-sqlite3': [`prebuilds/${platform}-${arch}.node`],
  [`@koromix/koffi-${platform}-${arch}`]: ['index.js', `${platform}_${arch}/koffi.node`],
}

const requireHere = createRequire(join(root, 'package.json'))

const isLegal = (/** @type {string} */ name) => /^(licen[cs]e|notice|copying)/i.test(name)

/**
 * Returns what the archive of the window's main process holds, as paths inside the checkout: the files that it imports, directly or through
 * others, and the built preload and screens.
 * @returns {Promise<string[]>}
 */
export async function archiveFiles() {
  const traced = await traceFiles([join(root, 'out/main/window.js')])
  const built = ['out/preload', 'out/renderer'].flatMap(filesUnder).filter((path) => !path.endsWith('.map'))
  return [...new Set([...traced, ...built, 'LICENSE', 'NOTICE'])].sort()
}

/**
 * Returns what lies beside the archive for the compute process, which is plain Node and cannot read the archive.
 * @returns {Promise<string[]>} paths inside the checkout
 */
export async function computeFiles() {
  const entries = ['compute', 'llama'].map((name) => join(root, 'out/main', `${name}.js`))
  const traced = await traceFiles([...entries, ...loadedByName.map((name) => requireHere.resolve(name))])
  return [...new Set([...traced, ...filesUnder('resources')])].sort()
}

/**
 * Returns every file that these import, by path inside the checkout, with package.json and licence of their packages.
 * @param {string[]} entries files, or names of packages
 */
async function traceFiles(entries) {
  /** @type {Set<string>} */
  const files = new Set()
  const handler = (/** @type {string} */ _code, /** @type {string} */ id) => {
    files.add(id)
    return null
  }
  const bundle = await rolldown({
    input: entries,
    cwd: root,
    platform: 'node',
    external: [/^node:/, 'electron', /\.node$/],
    // A package that a folder of ours replaces keeps its place.
    resolve: { symlinks: false },
    treeshake: false,
    logLevel: 'silent',
    plugins: [{ name: 'trace', transform: { handler } }],
  })
  await bundle.generate({ format: 'esm' })
  await bundle.close()
  const paths = [...files]
    .filter((file) => file.startsWith(root) && existsSync(file))
    .map((file) => relative(root, file).replaceAll(sep, '/'))
  const packages = [...new Set(paths.flatMap(packageOf))]
  const own = Object.entries(compiled).flatMap(([name, names]) =>
    packages.some((place) => place === `node_modules/${name}` || (name.startsWith('@koromix/') && place === 'node_modules/koffi'))
      ? ['package.json', ...names].map((one) => `node_modules/${name}/${one}`)
      : [],
  )
  const beside = packages.flatMap((place) =>
    readdirSync(join(root, place))
      .filter((name) => name === 'package.json' || isLegal(name))
      .map((name) => `${place}/${name}`),
  )
  return [...paths, ...own, ...beside]
}

/** @param {string} path of a file @returns {string[]} the folder of its package */
function packageOf(path) {
  const folder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]
  return folder ? [folder] : []
}

/** @param {string} folder inside the checkout @returns {string[]} */
function filesUnder(folder) {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name.replaceAll(sep, '/')}`)
    .filter((path) => statSync(join(root, path)).isFile())
}
