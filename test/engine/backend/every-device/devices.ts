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

/** `1` and `all` run the tests of Vulkan, other texts say why not. */
const vulkan = env.ESPALIER_TEST_VULKAN ?? '`npm test -- --vulkan` runs it where it can'

/** Why the tests of a device do not run; undefined where they do. */
export const skippedBecause = (device: TestedDevice): string | undefined =>
  device === 'ggml-vulkan' && !['1', 'all'].includes(vulkan) ? vulkan : undefined

/**
 * Whether all recorded models run. Otherwise only those that differ most do: on Vulkan, which compiles shaders for each, and on
 * TensorFlow, which other tests hold to all.
 */
export const runsAllModels = (device: TestedDevice): boolean => device === 'ggml-cpu' || vulkan === 'all'

// Before the first look for GPUs, which keeps what it found.
if (skippedBecause('ggml-vulkan') === undefined) {
  const settings = simulatedGpu()
  Object.assign(env, settings, { GALLIVM_PERF: env.GALLIVM_PERF ?? settings.GALLIVM_PERF })
}

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
