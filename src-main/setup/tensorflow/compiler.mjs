import { existsSync, readdirSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { arch, platform } from 'node:process'
import { chosenKernels } from '../../runtime/kernels.mjs'
import { packagedNode, root } from '../../runtime/node24.mjs'
import { addonName, fusedName } from '../../runtime/places.mjs'
import { findOnPath, runTool } from '../tools.mjs'

/**
 * @returns {string | undefined} the path of a C++ compiler
 */
export function findCompiler() {
  return findOnPath('g++') ?? findOnPath('c++') ?? findOnPath('clang++')
}

/** The package whose C++ source is compiled. */
export const bindingPackage = join(root, 'node_modules', '@tensorflow', 'tfjs-node-gpu')

/**
 * Returns the folder with `node_api.h`: in the npm package of Node 24, or beside the Node that runs setup.
 * @returns {string | undefined}
 */
function findNodeHeaders() {
  const folders = [packagedNode(), process.execPath].map((node) => join(dirname(node), '..', 'include', 'node'))
  return folders.find((folder) => existsSync(join(folder, 'node_api.h')))
}

/**
 * Compiles the package's own two source files against the libraries in `lib/`, and links them with a relative run path.
 * @param {string} compiler
 * @param {{ folder: string, headers: string, libraries: string[] }} parts `libraries` are paths inside `folder`
 * @returns {Promise<void>}
 */
export async function compileAddon(compiler, { folder, headers, libraries }) {
  const source = join(bindingPackage, 'binding')
  const nodeHeaders = findNodeHeaders()
  if (!nodeHeaders) throw new Error('The headers of Node (node_api.h) were not found beside Node.')
  const includes = [nodeHeaders, headers, source].flatMap((folder) => ['-I', folder])
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(source, name))
  const flags = ['-O2', '-w', '-DNAPI_VERSION=8', ...includes, ...sources, ...libraries]
  await compile(compiler, flags, join(folder, addonName), 'the TensorFlow binding')
}

/**
 * Compiles the engine's fused operations for this processor into a runtime's folder.
 * @param {string} compiler
 * @param {string} folder
 * @returns {Promise<string>} the path of the compiled file
 */
export async function compileFused(compiler, folder) {
  const libraries = readdirSync(join(folder, 'lib')).filter((name) => name.startsWith('libtensorflow'))
  const source = join(root, 'src-main', 'engine', 'backend', 'native', 'register.cc')
  const processor = chosenKernels()?.flags ?? [arch === 'arm64' ? '-mcpu=native' : '-march=native']
  const flags = ['-O3', ...processor, '-ffp-contract=fast', '-fno-math-errno', '-fvisibility=hidden', '-pthread', source]
  const target = join(folder, fusedName())
  await compile(compiler, [...flags, ...libraries.map((name) => join(folder, 'lib', name))], target, 'the fused operations')
  return target
}

/**
 * Builds a library that finds TensorFlow's libraries in `lib/` beside it. The file is renamed when it is complete.
 * @param {string} compiler
 * @param {string[]} flags
 * @param {string} target
 * @param {string} title
 */
async function compile(compiler, flags, target, title) {
  const link = platform === 'darwin' ? ['-undefined', 'dynamic_lookup', '-Wl,-rpath,@loader_path/lib'] : ['-Wl,-rpath,$ORIGIN/lib']
  const partial = `${target}.part`
  const all = ['-std=c++17', '-fPIC', '-shared', ...flags, ...link, '-o', partial]
  const { code, output } = await runTool(compiler, all, { cwd: dirname(target) })
  if (code !== 0) throw new Error(`${compiler} could not compile ${title}: ${firstError(output)}`)
  renameSync(partial, target)
}

/** @param {string} output */
function firstError(output) {
  const lines = output.split('\n').filter((line) => line.trim())
  return (lines.find((line) => /error/i.test(line)) ?? lines.at(-1) ?? 'it printed nothing').trim()
}
