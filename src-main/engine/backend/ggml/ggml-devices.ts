import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { env } from 'node:process'
import { findGgml, vulkanChoice } from '#runtime/ggml.mjs'
import { findStranger, findTrustProblem, trustedAddon } from '#runtime/trusted.mjs'
import { bind, deviceLibraries, inFolder, type LibraryFunction, openLibrary } from './ggml-library.ts'

/** A device on which the installed ggml libraries can compute. */
export interface ListedDevice {
  /** The library's handle. */
  readonly handle: unknown
  /** ggml's own name, for instance CPU or Metal. */
  readonly name: string
  readonly title: string
  readonly isGpu: boolean
  /** Whether the processor simulates this GPU. */
  readonly isSimulated: boolean
  /** The interface to the GPU, for instance Vulkan, and its driver if ggml reports it; null for the processor. */
  readonly driver: string | null
  readonly freeBytes: number
  readonly totalBytes: number
}

const registry = {
  load: 'void *ggml_backend_load(const char *file)',
  count: 'size_t ggml_backend_dev_count()',
  get: 'void *ggml_backend_dev_get(size_t index)',
} as const
const facts = {
  name: 'const char *ggml_backend_dev_name(void *device)',
  title: 'const char *ggml_backend_dev_description(void *device)',
  type: 'int ggml_backend_dev_type(void *device)',
  memory: 'void ggml_backend_dev_memory(void *device, _Out_ size_t *free, _Out_ size_t *total)',
} as const

/** `GGML_BACKEND_DEVICE_TYPE_*` of a GPU with its own memory, and of one that shares the processor's. */
const gpuTypes: readonly unknown[] = [1, 2]

/** Names of Vulkan drivers by the number of their device. They are read from ggml's log, because it reports them nowhere else. */
const drivers = new Map<string, string>()
const driverLine = /^ggml_vulkan: (\d+) = .*\(([^()]+)\) \|/

let loaded = false
let vulkan: string | undefined

/** Loads ggml's libraries for this processor, and for the kinds of GPUs that the installed package supports. */
export function loadDevices(): void {
  const ggml = bind(openLibrary('ggml'), registry)
  if (loaded) return
  silence()
  // ggml's own function loads every library in the folder, and the one that GGML_BACKEND_PATH names, without checking any of them.
  const { folder, paths } = deviceLibraries()
  for (const path of paths) inFolder(folder, () => ggml.load(path))
  loaded = true
}

/**
 * Loads ggml's library for Vulkan, restricted to shaders that compute in float32, or with `usual` unrestricted. The first call decides for
 * the whole process. Returns undefined on success, otherwise the reason why it cannot be used and what to do.
 */
export function loadVulkan(shaders: 'float32' | 'usual' = 'float32'): string | undefined {
  vulkan ??= tryVulkan(shaders)
  return vulkan || undefined
}

function tryVulkan(shaders: 'float32' | 'usual'): string {
  if (!findGgml()) return 'The ggml library is not installed. Run `npm start` once with a network.'
  if (vulkanChoice() === 'off') return 'ESPALIER_VULKAN=0 turns Vulkan off. Unset it, and run `npm start` once.'
  const folder = findGgml('ggml-vulkan')
  if (!folder)
    return 'The ggml library for Vulkan is not installed. Install a Vulkan driver for the GPU and run `npm start` once with a network.'
  const trustProblem = findTrustProblem(folder)
  if (trustProblem) return `The ggml library for Vulkan is not loaded: ${trustProblem}`
  const stranger = findStranger(folder)
  if (stranger) return `The ggml library for Vulkan is not loaded: ${stranger} Delete ${folder} and run \`npm start\` once.`
  const [file = ''] = readdirSync(folder).filter((name) => /ggml-vulkan\.(so|dll)$/.test(name))
  const path = trustedAddon(folder, file)
  if (!path) return `The ggml library for Vulkan in ${folder} is not what setup installed. Delete this folder and run \`npm start\` once.`
  // Shaders that round the operands of products to 16 bits would count as float32 and decide. Those for matrix units are a switch of their
  // own.
  if (shaders === 'float32') for (const units of ['F16', 'COOPMAT', 'COOPMAT2']) env[`GGML_VK_DISABLE_${units}`] = '1'
  const ggml = bind(openLibrary('ggml'), registry)
  return inFolder(folder, () => ggml.load(path)) ? '' : 'It found no Vulkan driver. Install one.'
}

/** Hides the log of ggml and llama.cpp, which they otherwise print to stderr, and collects the names of drivers from it. */
function silence(): void {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  const type = koffi.proto('void espalier_log(int level, const char *text, void *data)')
  const read = (_level: number, text: string) => {
    const [, number, driver] = driverLine.exec(text) ?? []
    if (number && driver) drivers.set(number, driver)
  }
  const reader = koffi.register(read, koffi.pointer(type))
  // llama.cpp also installs this function in ggml.
  openLibrary('llama.cpp').func('llama_log_set', 'void', [koffi.pointer(type), 'void *'])(reader, null)
}

/** Lists every device that the installed libraries find. Throws `not-found` if ggml is not installed or not usable. */
export function ggmlDevices(): ListedDevice[] {
  loadDevices()
  loadVulkan()
  const [ggml, base] = [bind(openLibrary('ggml'), registry), bind(openLibrary('ggml-base'), facts)]
  return Array.from({ length: Number(ggml.count()) }, (_, index) => describe(ggml.get(index), base))
}

function describe(device: unknown, base: Record<keyof typeof facts, LibraryFunction>): ListedDevice {
  const [free, total] = [[0], [0]]
  base.memory(device, free, total)
  const [name, title, isGpu] = [String(base.name(device)), String(base.title(device)), gpuTypes.includes(base.type(device))]
  const [, api = name, number = ''] = /^(\w+?)(\d*)$/.exec(name) ?? []
  return {
    handle: device,
    name,
    title,
    isGpu,
    isSimulated: /llvmpipe|lavapipe|swiftshader/i.test(title),
    driver: isGpu ? [api, drivers.get(number) ?? []].flat().join(', ') : null,
    freeBytes: Number(free[0]),
    totalBytes: Number(total[0]),
  }
}
