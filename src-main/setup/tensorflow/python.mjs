import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { env } from 'node:process'
import { findOnPath, runTool } from '../tools.mjs'
import { requirementOf } from './wheels.mjs'

/**
 * pip, as a Python command and its first arguments.
 * @typedef {{ command: string, args: string[] }} Pip
 */

/** A failed pip download. Files that pip completed before are kept. */
export class DownloadFailed extends Error {}

/**
 * @returns {Promise<Pip | undefined>}
 */
export async function findPip() {
  const args = ['-m', 'pip']
  for (const name of ['python3', 'python']) {
    const command = findOnPath(name)
    if (command && (await runTool(command, [...args, '--version'], { seconds: 30 })).code === 0) return { command, args }
  }
  return undefined
}

/** Only libraries and headers are extracted, so Python 3.11, which the wheels are for, need not be installed. pip checks the hashes. */
const downloadArguments = [
  ['download', '--no-deps', '--no-cache-dir', '--no-input', '--disable-pip-version-check', '--progress-bar', 'off'],
  ['--only-binary', ':all:', '--implementation', 'cp', '--python-version', '3.11', '--require-hashes'],
].flat()

/**
 * Downloads wheels into a folder with pip. A wheel appears there only when complete.
 * @param {Pip} pip
 * @param {import('./wheels.mjs').Wheels} wheels
 * @param {string} folder
 * @param {{ temporary: string, onBytes: (bytes: number, total: number) => void }} settings `temporary` must be on the same disk as `folder`
 * @returns {Promise<void>}
 */
export async function downloadWheels(pip, wheels, folder, { temporary, onBytes }) {
  let total = 0
  const requirements = join(temporary, 'requirements.txt')
  const lines = Object.entries(wheels).map(([file, sha256]) => `${requirementOf(file)} --hash=sha256:${sha256}`)
  writeFileSync(requirements, `${lines.join('\n')}\n`)
  const watch = setInterval(() => onBytes(folderSize(temporary), total), 500)
  try {
    const { code, output } = await runTool(
      pip.command,
      [...pip.args, ...downloadArguments, '--dest', folder, '--requirement', requirements],
      {
        env: { ...env, TMPDIR: temporary, TEMP: temporary, TMP: temporary },
        onOutput: (text) => {
          total += announcedBytes(text)
        },
      },
    )
    if (code !== 0)
      throw new DownloadFailed(`pip could not download ${Object.keys(wheels).map(requirementOf).join(', ')}: ${lastError(output)}`)
  } finally {
    clearInterval(watch)
  }
}

/**
 * Returns the bytes of the downloads that pip announces.
 * @param {string} text pip's output, for instance `Downloading tensorflow_cpu-….whl (273.8 MB)`
 * @returns {number}
 */
export function announcedBytes(text) {
  const units = { kB: 1e3, MB: 1e6, GB: 1e9 }
  let bytes = 0
  for (const [, amount, unit] of text.matchAll(/\((\d+(?:\.\d+)?) (kB|MB|GB)\)/g))
    bytes += Number(amount) * units[/** @type {'kB'} */ (unit)]
  return bytes
}

/** @param {string} output */
function lastError(output) {
  const lines = output.split('\n').filter((line) => line.trim())
  return (lines.findLast((line) => /^ERROR/.test(line)) ?? lines.at(-1) ?? 'it printed nothing').replace(/^ERROR: */, '').trim()
}

/**
 * @param {string} folder
 * @returns {number} bytes of all files in it
 */
export function folderSize(folder) {
  let bytes = 0
  for (const name of readdirSync(folder)) {
    // Files appear and disappear while they are counted.
    const status = statSync(join(folder, name), { throwIfNoEntry: false })
    if (status) bytes += status.isDirectory() ? folderSize(join(folder, name)) : status.size
  }
  return bytes
}
