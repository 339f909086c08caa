import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { arch, platform } from 'node:process'
import { findOpenblas, openblasFile, openblasFolder, openblasVersion } from '../runtime/openblas.mjs'
import { runtimesFolder } from '../runtime/places.mjs'
import { areInPlace, putInPlace } from './libraries.mjs'
import { withSetupLock } from './setup-lock.mjs'
import { downloadWheels, findPip } from './tensorflow/python.mjs'
import { unpackWheel } from './tensorflow/wheel.mjs'
import { checkWheel } from './tensorflow/wheels.mjs'
import { formatBytes, say, showStep } from './terminal.mjs'

const name = (/** @type {string} */ tag) => `scipy_openblas64-${openblasVersion}-py3-none-${tag}.whl`

/**
 * The wheels with OpenBLAS, by system, with the hash that the package index listed when the release was chosen.
 * @type {Readonly<Record<string, import('./tensorflow/wheels.mjs').Wheels>>}
 */
export const openblasWheels = {
  'darwin-x64': { [name('macosx_10_13_x86_64')]: 'b1a21963d32e6fb5f6e980998aefaa11c86cfcc1bb0b952134595906947dd598' },
  'darwin-arm64': { [name('macosx_11_0_arm64')]: '280660396e528988b8ac30e21a38222aa0a6552b0b3f54712abd92eb116d4901' },
  'linux-arm64': {
    [name('manylinux_2_27_aarch64.manylinux_2_28_aarch64')]: 'efd31ed0ca0c182cd57761e5f5f17899e0de39be4b1809d17e13aafc21500ec4',
  },
  'linux-x64': {
    [name('manylinux_2_27_x86_64.manylinux_2_28_x86_64')]: 'deb7f39980f5b4db6140d4a9d948e066ad3ea4a7c6545caa65c3f590fdc23559',
  },
  'win32-x64': { [name('win_amd64')]: '7ded297cb505642e88de7b687317e451ac8d432387dbcba82913d759003c3b92' },
}

/**
 * Ensures that the engine finds OpenBLAS, which solves a repair's equations and finds SliceGPT's components. Never throws: if it cannot be
 * installed, a message says that these take longer.
 * @param {typeof openblasWheels} [wheels]
 * @returns {Promise<void>}
 */
export async function ensureOpenblas(wheels = openblasWheels) {
  if (areInPlace(findOpenblas())) return
  try {
    await withSetupLock(async () => {
      if (!areInPlace(findOpenblas())) await installOpenblas(wheels)
    })
  } catch (thrown) {
    say(
      `OpenBLAS could not be installed: ${/** @type {Error} */ (thrown).message}\nWithout it, repairs and SliceGPT take longer. Run the same command again to retry.`,
    )
  }
}

/** @param {typeof openblasWheels} known */
async function installOpenblas(known) {
  const wheels = known[`${platform}-${arch}`]
  const [wheel] = Object.keys(wheels ?? {})
  const file = openblasFile
  if (!wheels || !wheel || !file) throw new Error(`no package is known for ${platform} ${arch}.`)
  const pip = await findPip()
  if (!pip) throw new Error('Python with pip is needed to download it.')
  const work = join(runtimesFolder(), '.installing-openblas')
  const [temporary, library] = [join(work, 'temporary'), join(work, 'library')]
  rmSync(work, { recursive: true, force: true })
  mkdirSync(temporary, { recursive: true })
  mkdirSync(library)
  await showStep('Installing OpenBLAS', async (report) => {
    await downloadWheels(pip, wheels, work, { temporary, onBytes: (bytes) => report(formatBytes(bytes)) })
    await checkWheel(join(work, wheel), wheels)
    await unpackWheel(pip.command, join(work, wheel), /\/(?:libscipy_openblas64_\.(?:so|dylib|dll)|LICENSE\.txt)$/, work)
    const unpacked = readdirSync(work, { recursive: true, encoding: 'utf8' })
    for (const path of [file, 'LICENSE.txt']) {
      const from = unpacked.find((one) => basename(one) === path)
      if (!from) throw new Error(`${wheel} has no ${path}.`)
      renameSync(join(work, from), join(library, path))
    }
    report(formatBytes(putInPlace(library, openblasFolder(), { name: 'openblas', version: openblasVersion })))
  }).finally(() => rmSync(work, { recursive: true, force: true }))
}
