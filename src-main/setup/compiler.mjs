import { existsSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { platform } from 'node:process'
import { packagedNode, root } from './node24.mjs'
import { addonName } from './places.mjs'
import { findOnPath, runTool } from './tools.mjs'

/**
 * @returns {string | undefined} the path of a C++ compiler
 */
export function findCompiler() {
  return findOnPath('g++') ?? findOnPath('c++') ?? findOnPath('clang++')
}

/** The package whose C++ source is compiled. */
export const bindingPackage = join(root, 'node_modules', '@tensorflow', 'tfjs-node-gpu')

/**
 * The folder with `node_api.h`: the npm package that brings Node 24 has it; a Node of one's own has it beside itself.
 * @returns {string | undefined}
 */
function findNodeHeaders() {
  const places = [packagedNode(), process.execPath].map((node) => join(dirname(node), '..', 'include', 'node'))
  return places.find((folder) => existsSync(join(folder, 'node_api.h')))
}

/**
 * Compiles the package's own two source files against the libraries in `lib/`, and links them with a run path relative to the result.
 * @param {string} compiler
 * @param {{ folder: string, headers: string, libraries: string[] }} parts `libraries` are paths inside `folder`
 * @returns {Promise<void>}
 */
export async function compileAddon(compiler, { folder, headers, libraries }) {
  const source = join(bindingPackage, 'binding')
  const nodeHeaders = findNodeHeaders()
  if (!nodeHeaders) throw new Error('The headers of Node (node_api.h) were not found beside it.')
  const isMac = platform === 'darwin'
  const includes = [nodeHeaders, headers, source].flatMap((place) => ['-I', place])
  const link = isMac ? ['-undefined', 'dynamic_lookup', '-Wl,-rpath,@loader_path/lib'] : ['-Wl,-rpath,$ORIGIN/lib']
  const partial = join(folder, `${addonName}.part`)
  const flags = ['-std=c++17', '-O2', '-fPIC', '-shared', '-w', '-DNAPI_VERSION=8']
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(source, name))
  const { code, output } = await runTool(compiler, [...flags, ...includes, ...sources, ...libraries, ...link, '-o', partial], {
    cwd: folder,
  })
  if (code !== 0) throw new Error(`${compiler} could not compile the TensorFlow binding: ${firstError(output)}`)
  renameSync(partial, join(folder, addonName))
}

/** @param {string} output */
function firstError(output) {
  const lines = output.split('\n').filter((line) => line.trim())
  return (lines.find((line) => /error/i.test(line)) ?? lines.at(-1) ?? 'it said nothing').trim()
}
