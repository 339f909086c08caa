import { cpus, freemem, totalmem } from 'node:os'
import { toErrorMessage } from '#contract/errors.ts'
import type { DeviceReport } from '#contract/machine/engine-state.ts'
import type { Backend } from './active.ts'
import { ggmlDevices, type ListedDevice } from './ggml/ggml-devices.ts'
import { findGpu, whyNoGpu } from './ggml/open.ts'
import { listGpus } from './gpu-driver.ts'

/** Lists every device of this machine, with the runtime that uses it, if any, and the reason. */
export async function listDevices(backend: Pick<Backend, 'name' | 'title' | 'reason'>): Promise<DeviceReport[]> {
  const onGpu = backend.name.endsWith('-gpu')
  const used = { usedBy: backend.title, why: backend.reason }
  const unused = (isVisible: boolean) =>
    isVisible ? `TensorFlow’s build for CUDA is not in use. ${backend.reason}` : 'CUDA_VISIBLE_DEVICES leaves this GPU out.'
  const nvidia = (await listGpus()).map(({ index, name, driver, freeBytes, totalBytes, isVisible }) => ({
    id: `cuda ${index}`,
    title: name,
    kind: 'gpu' as const,
    memoryBytes: freeBytes,
    totalBytes,
    driver: `NVIDIA ${driver}`,
    ...(isVisible && backend.name === 'tensorflow-gpu' ? used : { usedBy: null, why: unused(isVisible) }),
  }))
  const processor: DeviceReport = {
    id: 'cpu',
    title: cpus()[0]?.model.trim() || 'Processor',
    kind: 'cpu',
    memoryBytes: freemem(),
    totalBytes: totalmem(),
    driver: null,
    ...(onGpu ? { usedBy: null, why: 'A GPU is used instead.' } : used),
  }
  return [...nvidia, ...otherGpus().map((gpu) => describeGpu(gpu, backend)), processor]
}

/** Lists runtimes that find no device on this machine, and why. Empty if TensorFlow computes on a GPU. */
export function missingRuntimes({ name }: Pick<Backend, 'name'>): { name: string; available: false; why: string }[] {
  return name === 'tensorflow-gpu' || otherGpus().length > 0 ? [] : [{ name: 'ggml-gpu', available: false, why: whyNoGpu() }]
}

/** Lists the GPUs that the installed ggml finds; empty if ggml is not installed. */
function otherGpus(): ListedDevice[] {
  try {
    return ggmlDevices().filter(({ isGpu }) => isGpu)
  } catch (error) {
    if (toErrorMessage(error).code === 'not-found') return []
    throw error
  }
}

function describeGpu(gpu: ListedDevice, backend: Pick<Backend, 'name' | 'title' | 'reason'>): DeviceReport {
  const isUsed = backend.name === 'ggml-gpu' && findGpu()?.name === gpu.name
  return {
    id: gpu.name,
    title: gpu.title,
    kind: 'gpu',
    memoryBytes: gpu.freeBytes,
    totalBytes: gpu.totalBytes,
    driver: gpu.driver,
    usedBy: isUsed ? backend.title : null,
    why: isUsed || !gpu.isSimulated ? backend.reason : 'The processor simulates this GPU. It is used only if you choose ggml-gpu.',
  }
}
