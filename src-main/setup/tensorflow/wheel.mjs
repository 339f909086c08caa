import { fileURLToPath } from 'node:url'
import { runTool } from '../tools.mjs'

/** Patterns of the few needed files in a wheel, by purpose. Python must be able to read them too. */
export const needed = {
  libraries: /^tensorflow\/(libtensorflow_(?:cc|framework)\.(?:so\.2|2\.dylib))$/,
  headers: /^tensorflow\/include\/(?:tensorflow\/c\/.*|.*\/(?:ctstring|tsl_status)\w*)\.h$/,
  cuda: /^nvidia\/(?:\w+\/lib\/[^/]+\.so[^/]*|cuda_nvcc\/bin\/ptxas|cuda_nvcc\/nvvm\/libdevice\/[^/]+\.bc)$/,
}

const script = fileURLToPath(new URL('./unpack.py', import.meta.url))
/** At most this many bytes per dot that the script prints. */
const blockBytes = 2 ** 20

/**
 * Returns the files of a wheel whose names match.
 * @param {string} python
 * @param {string} path
 * @param {RegExp} pattern
 * @returns {Promise<{ name: string, size: number }[]>}
 */
export async function listWheel(python, path, pattern) {
  const output = await runUnpack(python, [path, pattern.source])
  return /** @type {[string, number][]} */ (JSON.parse(output)).map(([name, size]) => ({ name, size }))
}

/**
 * Extracts the matching files of a wheel into a folder, under their names in the wheel.
 * @param {string} python
 * @param {string} path
 * @param {RegExp} pattern
 * @param {string} folder
 * @param {(bytes: number) => void} [onBytes] called with the approximate number of bytes just written
 * @returns {Promise<void>}
 */
export async function unpackWheel(python, path, pattern, folder, onBytes) {
  await runUnpack(python, [path, pattern.source, folder], (text) => onBytes?.(blockBytes * text.length))
}

/**
 * @param {string} python
 * @param {string[]} args
 * @param {(text: string) => void} [onOutput]
 */
async function runUnpack(python, args, onOutput) {
  const { code, output } = await runTool(python, [script, ...args], onOutput ? { onOutput } : {})
  if (code === 0) return output
  const lines = output.split('\n').filter((line) => line.trim())
  throw new Error(`${args[0]} could not be unpacked: ${(lines.at(-1) ?? `Python ended with code ${code}`).trim()}`)
}
