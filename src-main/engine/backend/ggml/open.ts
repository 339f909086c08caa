import { registerBackend, setBackend } from '@tensorflow/tfjs-core'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import { ggmlVersion } from '#runtime/ggml.mjs'
import { ownThreads } from '#runtime/threads.ts'
import type { Backend } from '../active.ts'
import { composedOperations } from './composed.ts'
import { GgmlDevice } from './device.ts'
import { ggmlDevices, type ListedDevice, loadVulkan } from './ggml-devices.ts'
import { registerKernels } from './plain-kernels.ts'
import { findRuntimeProducts } from './runtime-products.ts'
import { storeOn } from './store-weights.ts'
import { GgmlTensors } from './tensors.ts'

/** Makes ggml on the processor the backend of tfjs-core. Throws `not-found` if setup installed no library. */
export async function openGgml(reason: string): Promise<Backend> {
  const found = ggmlDevices().find(({ isGpu }) => !isGpu)
  if (!found) throw new EspalierError('not-found', 'ggml has no library for this processor. Run `npm start` once with a network.')
  const threads = ownThreads()
  return {
    name: 'ggml-cpu',
    title: `ggml ${ggmlVersion} on the CPU, ${plural(threads, 'thread')}`,
    reason,
    ...(await computeOn(found, 'ggml-cpu', threads)),
  }
}

/** Explains to users why `findGpu` finds no GPU, and what to do. */
export function whyNoGpu(): string {
  try {
    return `ggml finds no GPU. ${loadVulkan() ?? 'The Vulkan driver lists none. Install your GPU’s own driver.'}`
  } catch (thrown) {
    return `ggml finds no GPU. ${toErrorMessage(thrown).message}`
  }
}

/** The first GPU that ggml finds. Real GPUs come before simulated ones, which ggml lists only if the user made them visible. */
export const findGpu = (): ListedDevice | undefined => {
  const gpus = ggmlDevices().filter(({ isGpu }) => isGpu)
  return gpus.find(({ isSimulated }) => !isSimulated) ?? gpus[0]
}

/** Makes ggml on a GPU the backend of tfjs-core. Throws `not-found` with the reason if there is no GPU. */
export async function openGgmlGpu(reason: string): Promise<Backend> {
  const found = findGpu()
  if (!found) throw new EspalierError('not-found', `${whyNoGpu()} Or choose another backend.`)
  return {
    name: 'ggml-gpu',
    title: `ggml ${ggmlVersion} on ${found.title} (${found.name})`,
    reason,
    ...(await computeOn(found, 'ggml-gpu', 1)),
    ...(found.freeBytes > 0 ? { deviceBytes: found.freeBytes } : {}),
  }
}

/** Registers a device with tfjs-core under a name, and makes it the active backend. */
async function computeOn(
  { handle, isGpu }: ListedDevice,
  name: string,
  threads: number,
): Promise<Pick<Backend, 'fused' | 'runtimeProducts' | 'store'>> {
  const tensors = new GgmlTensors(new GgmlDevice(handle, threads))
  registerKernels(name)
  registerBackend(name, () => tensors)
  await setBackend(name)
  return {
    fused: composedOperations(tensors, isGpu),
    // Newer processors have instructions for bfloat16. GPUs multiply float16 weights by activations that are not rounded.
    runtimeProducts: findRuntimeProducts(tensors, isGpu ? 'float16' : 'bfloat16'),
    store: storeOn(tensors),
  }
}
