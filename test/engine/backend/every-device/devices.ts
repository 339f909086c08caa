import { env } from 'node:process'
import * as tf from '@tensorflow/tfjs-core'
import { type Backend, setActiveBackend } from '#engine/backend/active.ts'
import { openGgml, openGgmlGpu } from '#engine/backend/ggml/open.ts'
import { probe } from '#engine/backend/probe.ts'
import { openTensorflow } from '#engine/backend/tensorflow.ts'
import { simulatedGpu } from '../../../../src-main/setup/simulated-gpu.mjs'

const openers = {
  'tensorflow-cpu': openTensorflow,
  'ggml-cpu': () => openGgml('Tested.'),
  'ggml-vulkan': () => openGgmlGpu('Tested.'),
}

export type TestedDevice = keyof typeof openers
export const testedDevices = Object.keys(openers) as TestedDevice[]

/** Why the tests of a device do not run; undefined where they do. `npm test -- --vulkan` says so of Vulkan where it can run. */
export const skippedBecause = (device: TestedDevice): string | undefined =>
  device === 'ggml-vulkan' && env.ESPALIER_TEST_VULKAN !== '1' ? (env.ESPALIER_TEST_VULKAN ?? '`--vulkan` was not given') : undefined

// Before the first look for GPUs, which keeps what it found.
if (skippedBecause('ggml-vulkan') === undefined) Object.assign(env, simulatedGpu)

const opened = new Map<TestedDevice, Backend>()

/** Lets a device compute. A process may switch between devices, unlike the program. */
export async function computeOn(device: TestedDevice): Promise<Backend> {
  const known = opened.get(device)
  const backend = known ?? (await openers[device]())
  await tf.setBackend(backend.name.startsWith('tensorflow') ? 'tensorflow' : backend.name)
  if (!known) await probe()
  opened.set(device, backend)
  setActiveBackend(backend)
  return backend
}
