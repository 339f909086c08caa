import { createRequire } from 'node:module'
import { findGgml } from '#runtime/ggml.mjs'
import { bind, openLibrary } from './library.ts'

/** A device that ggml's installed libraries can compute on. */
export interface ListedDevice {
  /** For the library. */
  readonly handle: unknown
  /** ggml's own name, for instance CPU or Metal. */
  readonly name: string
  readonly title: string
  readonly isGpu: boolean
  readonly freeBytes: number
  readonly totalBytes: number
}

const registry = {
  loadAll: 'void ggml_backend_load_all_from_path(const char *folder)',
  count: 'size_t ggml_backend_dev_count()',
  get: 'void *ggml_backend_dev_get(size_t index)',
} as const
const facts = {
  name: 'const char *ggml_backend_dev_name(void *device)',
  title: 'const char *ggml_backend_dev_description(void *device)',
  type: 'int ggml_backend_dev_type(void *device)',
  memory: 'void ggml_backend_dev_memory(void *device, _Out_ size_t *free, _Out_ size_t *total)',
} as const

/** `GGML_BACKEND_DEVICE_TYPE_*` of a GPU with memory of its own, and of one that shares the processor's. */
const gpuTypes: readonly unknown[] = [1, 2]

let loaded = false

/** Loads the library for this processor and those for the GPUs that the installed package has. */
export function loadDevices(): void {
  const folder = findGgml()
  const ggml = bind(openLibrary('ggml'), registry)
  if (loaded || folder === undefined) return
  silence()
  ggml.loadAll(folder)
  loaded = true
}

/** ggml and llama.cpp report every step on stderr. */
function silence(): void {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  const type = koffi.proto('void espalier_log(int level, const char *text, void *data)')
  const nothing = koffi.register(() => undefined, koffi.pointer(type))
  openLibrary('ggml-base').func('ggml_log_set', 'void', [koffi.pointer(type), 'void *'])(nothing, null)
  openLibrary('llama.cpp').func('llama_log_set', 'void', [koffi.pointer(type), 'void *'])(nothing, null)
}

/** Every device of the installed libraries. Throws `not-found` where there are none. */
export function ggmlDevices(): ListedDevice[] {
  loadDevices()
  const [ggml, base] = [bind(openLibrary('ggml'), registry), bind(openLibrary('ggml-base'), facts)]
  return Array.from({ length: Number(ggml.count()) }, (_, index) => {
    const device: unknown = ggml.get(index)
    const [free, total] = [[0], [0]]
    base.memory(device, free, total)
    return {
      handle: device,
      name: String(base.name(device)),
      title: String(base.title(device)),
      isGpu: gpuTypes.includes(base.type(device)),
      freeBytes: Number(free[0]),
      totalBytes: Number(total[0]),
    }
  })
}
