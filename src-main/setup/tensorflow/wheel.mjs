import { fileURLToPath } from 'node:url'
import { runTool } from '../tools.mjs'

/** Patterns of the files that setup needs from a wheel, by purpose. Python does the matching, so use only syntax that it knows too. */
export const wheelPatterns = {
  libraries: /^tensorflow\/(libtensorflow_(?:cc|framework)\.(?:so\.2|2\.dylib))$/,
  headers: /^tensorflow\/include\/(?:tensorflow\/c\/.*|.*\/(?:ctstring|tsl_status)\w*)\.h$/,
  cuda: /^nvidia\/(?:\w+\/lib\/[^/]+\.so[^/]*|cuda_nvcc\/bin\/ptxas|cuda_nvcc\/nvvm\/libdevice\/[^/]+\.bc)$/,
}

const script = fileURLToPath(new URL('./unpack.py', import.meta.url))
/** The script prints a dot for each block that it writes. A block has at most this many bytes. */
const blockBytes = 2 ** 20

/**
 * Lists the files of a wheel whose names match the pattern.
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
 * @param {(bytes: number) => void} [onBytes] called with the approximate number of bytes written since the last call
 * @returns {Promise<void>}
 */
export async function unpackWheel(python, path, pattern, folder, onBytes) {
  await runUnpack(python, [path, pattern.source, folder], (text) => onBytes?.(blockBytes * text.length))
}

/**
 * Runs the script and returns its output. Throws if the wheel cannot be read.
 * @param {string} python
 * @param {string[]} args
 * @param {(text: string) => void} [onOutput]
 */
async function runUnpack(python, args, onOutput) {
  const { code, output } = await runTool(python, [script, ...args], onOutput ? { onOutput } : {})
  if (code === 0) return output
  const lines = output.split('\n').filter((line) => line.trim())
  throw new Error(`${args[0]} could not be read: ${(lines.at(-1) ?? `Python ended with code ${code}`).trim()}`)
}
