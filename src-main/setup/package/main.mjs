import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { execPath, platform } from 'node:process'
import { root } from '../../runtime/node24.mjs'
import { ensureElectron } from '../electron.mjs'
import { ensureBundle } from '../screens.mjs'
import { formatBytes, say, showStep } from '../terminal.mjs'
import { findOnPath } from '../tools.mjs'
import { ensureShippedLibraries, packFolder, sizeOf } from './folder.mjs'
import { packageName, writeDebian, writeTar } from './linux.mjs'

// Packages the program for this Linux machine's processor: npm run package
if (platform !== 'linux') {
  say('This command packages for Linux. For macOS and Windows see src-main/electron/README.md.')
  process.exit(1)
}
const electron = await ensureElectron(execPath)
if (!electron) {
  say('There is no Electron to package. Set ELECTRON_OVERRIDE_DIST_PATH to the folder of an unpacked one.')
  process.exit(1)
}
await ensureBundle(execPath, 'screens')
await ensureBundle(execPath, 'window')
await ensureShippedLibraries()
const folder = join(root, 'dist', packageName)
mkdirSync(join(root, 'dist'), { recursive: true })
await showStep('Packing the folder', async (report) => {
  await packFolder(folder, dirname(electron))
  report(`${folder}, ${formatBytes(sizeOf(folder))}`)
})
await writePackage(`${folder}.tar.gz`, writeTar)
if (findOnPath('dpkg-deb')) await writePackage(`${folder}.deb`, writeDebian)
else say('No Debian package was written, because dpkg-deb was not found.')

/** @param {string} target @param {(folder: string, target: string) => Promise<void>} write */
async function writePackage(target, write) {
  await showStep(`Writing ${target}`, () => write(folder, target))
}
