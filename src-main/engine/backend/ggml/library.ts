import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { LibraryHandle } from 'koffi'
import { EspalierError } from '#contract/errors.ts'
import { findGgml, ggmlVersion } from '#runtime/ggml.mjs'
import { findTrustProblem, trustedAddon } from '#runtime/trusted.mjs'

/** The libraries of the installed package that Espalier opens by name. */
export type LibraryName = 'ggml-base' | 'ggml' | 'llama.cpp'

// koffi contains native code, so it is loaded only when a library is opened, and never in the main process.
const load = createRequire(import.meta.url)
export const koffi = (): typeof import('koffi') => load('koffi') as typeof import('koffi')

/** Patterns of the libraries' file names, which differ between systems: libggml.v0.4.0.so, ggml-base.dll. */
const fileNames: Readonly<Record<LibraryName, RegExp>> = {
  'ggml-base': /^(lib)?ggml-base\.(so|dll|dylib)$/,
  ggml: /^(lib)?ggml\.(v[\d.]+\.)?(so|dll|dylib)$/,
  'llama.cpp': /^(lib)?llama\.(v[\d.]+\.)?(so|dll|dylib)$/,
}

const opened = new Map<LibraryName, LibraryHandle>()

/**
 * Opens one of the libraries that setup installed. Call it only in a compute process, because a failed assertion in the library ends the
 * process. Throws `not-found` if the libraries are missing, changed, or of another version, and says what to do.
 */
export function openLibrary(name: LibraryName): LibraryHandle {
  const known = opened.get(name)
  if (known) return known
  const folder = checkedFolder()
  if (name !== 'ggml-base') openLibrary('ggml-base')
  if (name === 'llama.cpp') openLibrary('ggml')
  const file = readdirSync(folder).find((one) => fileNames[name].test(one))
  const path = file === undefined ? undefined : trustedAddon(folder, file)
  if (!path) throw unusable(folder, `its library ${name} is not the file that setup installed`)
  const library = koffi().load(path, { global: true })
  if (name === 'ggml-base') checkVersion(library, folder)
  opened.set(name, library)
  return library
}

function checkedFolder(): string {
  const folder = findGgml()
  if (!folder)
    throw new EspalierError(
      'not-found',
      'The ggml library, which computes without TensorFlow and reads and writes quantised GGUF types, is not installed. Run `npm start` or `npm run demo` once with a network.',
    )
  const trustProblem = findTrustProblem(folder)
  if (trustProblem) throw new EspalierError('not-found', `The ggml library is not loaded: ${trustProblem}`)
  return folder
}

/** Throws if the library is not of the version that Espalier was written for, because signatures and structures differ between versions. */
function checkVersion(library: LibraryHandle, folder: string): void {
  const found: unknown = library.func('const char *ggml_version()')()
  if (found !== ggmlVersion) throw unusable(folder, `it has version ${String(found)} and Espalier needs ${ggmlVersion}`)
}

function unusable(folder: string, reason: string): EspalierError {
  return new EspalierError(
    'not-found',
    `The ggml library in ${folder} cannot be used: ${reason}. Delete this folder and run \`npm start\` once.`,
  )
}

/** A function of a library. Its `async` method runs it on a thread of Node's pool. */
export type LibraryFunction = ReturnType<LibraryHandle['func']>

/** Binds functions of a library, given their C declarations, and returns them under our own names. */
export function bind<Name extends string>(
  library: LibraryHandle,
  declarations: Readonly<Record<Name, string>>,
): Record<Name, LibraryFunction> {
  const functions = Object.entries<string>(declarations).map(([name, declaration]) => [name, library.func(declaration)])
  return Object.fromEntries(functions) as Record<Name, LibraryFunction>
}
