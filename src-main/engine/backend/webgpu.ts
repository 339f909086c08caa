import * as tf from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { Backend } from './active.ts'

/** The largest buffer that a weight of a mid-sized model needs; below it, operations return zeros without an error. */
const bindingBytes = 2 ** 30

interface Adapter {
  readonly limits: { readonly maxStorageBufferBindingSize: number }
}

/** Asks for an adapter whose buffers are large enough; the packages are the user's to install (`webgpu` and the tfjs backend). */
async function requestAdapter(): Promise<Adapter> {
  const packageName = 'webgpu'
  const { create, globals } = (await import(packageName)) as { create(options: string[]): unknown; globals: object }
  Object.assign(globalThis, globals)
  const gpu = create([]) as { requestAdapter(): Promise<Adapter | null> }
  Object.defineProperty(globalThis.navigator, 'gpu', { value: gpu, configurable: true })
  const adapter = await gpu.requestAdapter()
  if (!adapter) throw new Error('no adapter answered')
  return adapter
}

/** WebGPU through Dawn, where its two packages are installed beside Espalier and a large enough adapter answers. */
export async function openWebgpu(): Promise<Backend> {
  try {
    const adapter = await requestAdapter()
    const limit = adapter.limits.maxStorageBufferBindingSize
    if (limit < bindingBytes) throw new Error(`the adapter binds at most ${limit} bytes, ${bindingBytes} are needed`)
    const backendName = '@tensorflow/tfjs-backend-webgpu'
    await import(backendName)
    await tf.setBackend('webgpu')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new EspalierError(
      'not-found',
      `WebGPU cannot be used here (${reason}). Install the packages webgpu and @tensorflow/tfjs-backend-webgpu, or choose another backend.`,
    )
  }
  return { name: 'webgpu', title: 'WebGPU', reason: 'Chosen by the user.', anyProducts: true }
}
