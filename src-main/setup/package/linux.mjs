import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { arch } from 'node:process'
import { root } from '../../runtime/node24.mjs'
import { runTool } from '../tools.mjs'
import { description, sizeOf } from './folder.mjs'

/** Debian's names of what Electron loads. Where a name changed with Debian 13, both are allowed. */
const depends = [
  'libgtk-3-0t64 | libgtk-3-0',
  'libnss3',
  'libasound2t64 | libasound2',
  'libgbm1',
  'libnotify4',
  'libxkbcommon0',
  'libatspi2.0-0t64 | libatspi2.0-0',
  'xdg-utils',
]

/** GGUF files and exported runs open in Espalier, and so do its own links. `%U` is what was opened. */
const menuEntry = `[Desktop Entry]
Type=Application
Name=Espalier
GenericName=Model pruning workbench
Comment=Prune large language models and see what each method costs and keeps
Exec=/opt/espalier/espalier %U
Icon=espalier
Terminal=false
Categories=Science;Education;Development;
Keywords=prune;model;LLM;GGUF;safetensors;
MimeType=application/x-gguf;application/x-espalier+json;x-scheme-handler/espalier;
StartupWMClass=Espalier
StartupNotify=true
Actions=new;runs;

[Desktop Action new]
Name=New experiment
Exec=/opt/espalier/espalier --open=new

[Desktop Action runs]
Name=Runs
Exec=/opt/espalier/espalier --open=runs
`

const fileType = `<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="application/x-gguf">
    <comment>GGUF model</comment>
    <magic><match type="string" offset="0" value="GGUF"/></magic>
    <glob pattern="*.gguf"/>
  </mime-type>
  <mime-type type="application/x-espalier+json">
    <comment>Runs exported from Espalier</comment>
    <sub-class-of type="application/json"/>
    <glob pattern="*.espalier.json"/>
  </mime-type>
</mime-info>
`

export const packageName = `espalier-${description.version}-linux-${arch}`

/**
 * Writes a compressed archive of a packed folder. Everything in it belongs to root.
 * @param {string} folder its name is that of the folder in the archive
 * @param {string} target a file that ends in `.tar.gz`
 */
export async function writeTar(folder, target) {
  await run('tar', ['--owner=0', '--group=0', '--sort=name', '-czf', target, '-C', dirname(folder), basename(folder)])
}

/**
 * Writes a Debian package of a packed folder with Debian's own `dpkg-deb`, which changes nothing outside these paths: /opt/espalier,
 * /usr/bin/espalier, menu entry, icon, file type and licence. It runs no script when it is installed or removed.
 * @param {string} folder
 * @param {string} target a file that ends in `.deb`
 */
export async function writeDebian(folder, target) {
  const tree = `${target}.part`
  rmSync(tree, { recursive: true, force: true })
  cpSync(folder, join(tree, 'opt/espalier'), { recursive: true })
  // Where the system gives an ordinary user no namespaces, Chromium's sandbox needs this program with root's rights.
  chmodSync(join(tree, 'opt/espalier/chrome-sandbox'), 0o4755)
  const put = (/** @type {string} */ path, /** @type {string} */ text) => {
    mkdirSync(dirname(join(tree, path)), { recursive: true })
    writeFileSync(join(tree, path), text)
  }
  put('usr/share/applications/espalier.desktop', menuEntry)
  put('usr/share/mime/packages/espalier.xml', fileType)
  put('DEBIAN/control', control(Math.ceil(sizeOf(tree) / 1024)))
  mkdirSync(join(tree, 'usr/bin'))
  symlinkSync('/opt/espalier/espalier', join(tree, 'usr/bin/espalier'))
  for (const [file, place] of [
    ['resources/icon.svg', 'usr/share/icons/hicolor/scalable/apps/espalier.svg'],
    ['NOTICE', 'usr/share/doc/espalier/copyright'],
  ]) {
    mkdirSync(dirname(join(tree, place ?? '')), { recursive: true })
    cpSync(join(root, file ?? ''), join(tree, place ?? ''))
  }
  await run('chmod', ['-R', 'go=rX', join(tree, 'usr'), join(tree, 'DEBIAN')])
  await run('dpkg-deb', ['--build', '--root-owner-group', '-Zzstd', '-z9', tree, target])
  rmSync(tree, { recursive: true })
}

/** @param {number} kibibytes installed */
const control = (kibibytes) => `Package: espalier
Version: ${description.version}
Architecture: ${arch === 'x64' ? 'amd64' : arch}
Maintainer: The Espalier authors
Installed-Size: ${kibibytes}
Depends: ${depends.join(', ')}
Section: science
Priority: optional
Description: workbench that prunes large language models
 ${description.description}
`

/** @param {string} command @param {string[]} args */
async function run(command, args) {
  const { code, output } = await runTool(command, args)
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${output.trim()}`)
}
