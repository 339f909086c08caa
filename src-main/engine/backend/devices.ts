import { cpus, freemem, totalmem } from 'node:os'
import { toErrorMessage } from '#contract/errors.ts'
import type { DeviceReport } from '#contract/machine/engine-state.ts'
import type { Backend } from './active.ts'
import { ggmlDevices, type ListedDevice } from './ggml/devices.ts'
import { listGpus } from './gpu-driver.ts'

/** Every device of this machine, with the runtime that computes on it, and why. */
export async function listDevices(backend: Pick<Backend, 'name' | 'title' | 'reason'>): Promise<DeviceReport[]> {
  const onGpu = backend.name === 'tensorflow-gpu'
  const used = { usedBy: backend.title, why: backend.reason }
  const nvidia = (await listGpus()).map(({ index, name, driver, freeBytes, totalBytes }) => ({
    id: `cuda ${index}`,
    title: name,
    kind: 'gpu' as const,
    memoryBytes: freeBytes,
    totalBytes,
    driver: `NVIDIA ${driver}`,
    ...(onGpu ? used : { usedBy: null, why: `TensorFlow's build for CUDA is not in use. ${backend.reason}` }),
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
  return [...nvidia, ...otherGpus().map(describeGpu), processor]
}

/** GPUs that the installed ggml finds; none without it. */
function otherGpus(): ListedDevice[] {
  try {
    return ggmlDevices().filter(({ isGpu }) => isGpu)
  } catch (error) {
    if (toErrorMessage(error).code === 'not-found') return []
    throw error
  }
}

const describeGpu = ({ name, title, freeBytes, totalBytes }: ListedDevice): DeviceReport => ({
  id: name,
  title,
  kind: 'gpu',
  memoryBytes: freeBytes,
  totalBytes,
  driver: `ggml ${name}`,
  usedBy: null,
  why: 'Espalier computes with ggml on the processor only.',
})
