import { cpus } from 'node:os'
import { env } from 'node:process'
import { registerBackend, setBackend } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import { ggmlVersion } from '#runtime/ggml.mjs'
import type { Backend } from '../active.ts'
import { composedOperations } from './composed.ts'
import { GgmlDevice } from './device.ts'
import { ggmlDevices } from './devices.ts'
import { registerKernels } from './plain-kernels.ts'
import { GgmlTensors } from './tensors.ts'

/** Makes ggml on the processor the backend of tfjs-core. Throws `not-found` where setup left no library. */
export async function openGgml(reason: string): Promise<Backend> {
  const found = ggmlDevices().find(({ isGpu }) => !isGpu)
  if (!found) throw new EspalierError('not-found', 'ggml has no library for this processor. Run `npm start` once with a network.')
  const threads = Number(env.TF_NUM_INTRAOP_THREADS ?? cpus().length)
  const tensors = new GgmlTensors(new GgmlDevice(found.handle, threads))
  registerKernels('ggml')
  registerBackend('ggml', () => tensors)
  await setBackend('ggml')
  return {
    name: 'ggml-cpu',
    title: `ggml ${ggmlVersion} on the CPU, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    reason,
    fused: composedOperations(tensors),
  }
}
