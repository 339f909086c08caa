import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { BackendName } from '#contract/run-request.ts'
import { type Backend, setActiveBackend } from './active.ts'
import { probe } from './probe.ts'
import { openTensorflow } from './tensorflow.ts'
import { openWasm } from './wasm.ts'
import { openWebgpu } from './webgpu.ts'

let opened: { name: BackendName; backend: Promise<Backend> } | undefined

/**
 * Opens a runtime and checks it with a known product. `auto` takes TensorFlow, and WebAssembly where that cannot run.
 * A process keeps the first one: asking for another is an error.
 */
export function openBackend(name: BackendName = 'auto'): Promise<Backend> {
  if (opened && name !== 'auto' && opened.name !== name) {
    throw new EspalierError('conflict', `This process already computes with the ${opened.name} backend; start another one for ${name}.`)
  }
  opened ??= { name, backend: open(name) }
  return opened.backend
}

async function open(name: BackendName): Promise<Backend> {
  const backend = await choose(name)
  setActiveBackend(backend)
  await probe()
  return backend
}

async function choose(name: BackendName): Promise<Backend> {
  if (name === 'wasm') return openWasm('Chosen by the user.')
  if (name === 'webgpu') return openWebgpu()
  if (name === 'tensorflow') return openTensorflow()
  try {
    return await openTensorflow()
  } catch (error) {
    return openWasm(toErrorMessage(error).message)
  }
}
