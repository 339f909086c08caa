import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { BackendName } from '#contract/runs/run-request.ts'
import { type Backend, setActiveBackend } from './active.ts'
import { probe } from './probe.ts'
import { openTensorflow } from './tensorflow.ts'
import { openWasm } from './wasm.ts'

let opened: { name: BackendName; backend: Promise<Backend> } | undefined
let checked: Promise<void> | undefined

/** Opens a runtime as `loadBackend` does and checks it with a known product: one that computes wrongly is an error. */
export async function openBackend(name: BackendName = 'auto'): Promise<Backend> {
  const backend = await loadBackend(name)
  checked ??= probe()
  await checked
  return backend
}

/**
 * The runtime of this process, unchecked. `auto` takes TensorFlow, and WebAssembly where that cannot run.
 * A process keeps the first one: asking for another is an error.
 */
export async function loadBackend(wanted: BackendName): Promise<Backend> {
  const name = wanted === 'webgpu' ? 'auto' : wanted
  if (opened && name !== 'auto' && opened.name !== name) {
    throw new EspalierError('conflict', `This process already computes with the ${opened.name} backend; start another one for ${name}.`)
  }
  opened ??= { name, backend: start(name) }
  return opened.backend
}

async function start(name: BackendName): Promise<Backend> {
  const backend = await choose(name)
  setActiveBackend(backend)
  return backend
}

async function choose(name: BackendName): Promise<Backend> {
  if (name === 'wasm') return openWasm('Chosen by the user.')
  if (name === 'tensorflow') return openTensorflow()
  try {
    return await openTensorflow()
  } catch (error) {
    return openWasm(toErrorMessage(error).message)
  }
}
