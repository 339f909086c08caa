import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chdir, cwd } from 'node:process'
import { isMainThread } from 'node:worker_threads'
import type { LibraryHandle } from 'koffi'
import { EspalierError } from '#contract/errors.ts'
import { findGgml, ggmlVersion } from '#runtime/ggml.mjs'
import { chosenKernels } from '#runtime/kernels.mjs'
import { isInstalled } from '#runtime/resources.ts'
import { findStranger, findTrustProblem, trustedAddon } from '#runtime/trusted.mjs'

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
  const library = inFolder(folder, () => koffi().load(path, { global: true }))
  if (name === 'ggml-base') checkVersion(library, folder)
  opened.set(name, library)
  return library
}

function checkedFolder(): string {
  const folder = findGgml()
  if (!folder)
    throw new EspalierError(
      'not-found',
      `The ggml library, which computes without TensorFlow and reads and writes quantised GGUF types, is not installed. ${isInstalled ? 'Install Espalier again.' : 'Run `npm start` or `npm run demo` once with a network.'}`,
    )
  const trustProblem = findTrustProblem(folder)
  if (trustProblem) throw new EspalierError('not-found', `The ggml library is not loaded: ${trustProblem}`)
  const stranger = findStranger(folder)
  if (stranger) throw unusable(folder, stranger.replace(/\.$/, ''))
  return folder
}

/**
 * Loads a library with its folder as the working folder. The search path of the installed libraries names the working folder too, so that
 * a file in the folder where Espalier was started could be loaded as one of theirs.
 */
export function inFolder<Loaded>(folder: string, load: () => Loaded): Loaded {
  if (!isMainThread) return load()
  const before = cwd()
  chdir(folder)
  try {
    return load()
  } finally {
    chdir(before)
  }
}

/**
 * The libraries for processors and GPUs in the package's folder, each by its kind (`cpu`, `metal`). Of several variants for different
 * processors, it is the one that runs fastest on this machine. Throws if one of them is not what setup installed.
 */
export function deviceLibraries(): { readonly folder: string; readonly paths: readonly string[] } {
  const folder = checkedFolder()
  const variants = new Map<string, string[]>()
  for (const name of readdirSync(folder)) {
    const kind = /^(?:lib)?ggml-(?!base)([a-z0-9]+)[^.]*\.(?:so|dll|dylib)$/.exec(name)?.[1]
    if (kind) variants.set(kind, [...(variants.get(kind) ?? []), name])
  }
  const paths = [...variants.values()].flatMap((names) => {
    const checked = names.map((name) => trustedAddon(folder, name) ?? refuse(folder, name))
    return checked.length === 1 ? checked : (chosenOf(checked) ?? fastestOf(folder, checked) ?? [])
  })
  return { folder, paths }
}

function refuse(folder: string, name: string): never {
  throw unusable(folder, `its library ${name} is not the file that setup installed`)
}

/** The variant that has only the instructions that a test chose. */
const chosenOf = (paths: readonly string[]): string | undefined =>
  chosenKernels()?.ggml.flatMap((name) => paths.find((path) => path.includes(`ggml-cpu-${name}.`)) ?? [])[0]

/** The variant with the highest score. Each variant scores this processor, with 0 if it lacks an instruction that the variant uses. */
function fastestOf(folder: string, paths: readonly string[]): string | undefined {
  let best: { path: string; score: number } | undefined
  for (const path of paths) {
    const library = inFolder(folder, () => koffi().load(path))
    const score = Number(library.func('int ggml_backend_score()')())
    library.unload()
    if (score > (best?.score ?? 0)) best = { path, score }
  }
  return best?.path
}

/** Throws if the library is not of the version that Espalier was written for, because signatures and structures differ between versions. */
function checkVersion(library: LibraryHandle, folder: string): void {
  const found: unknown = library.func('const char *ggml_version()')()
  if (found !== ggmlVersion) throw unusable(folder, `it has version ${String(found)} and Espalier needs ${ggmlVersion}`)
}

function unusable(folder: string, reason: string): EspalierError {
  return new EspalierError(
    'not-found',
    `The ggml library in ${folder} cannot be used: ${reason}. ${isInstalled ? 'Install Espalier again' : 'Delete this folder and run `npm start` once'}.`,
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
