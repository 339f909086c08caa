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

/** `1` and `all` run the Vulkan tests; any other text is the reason why they are skipped. */
const vulkan = env.ESPALIER_TEST_VULKAN ?? '`npm test -- --vulkan` runs it where it can'

/** Why a device's tests are skipped; undefined where they run. */
export const skippedBecause = (device: TestedDevice): string | undefined =>
  device === 'ggml-vulkan' && !['1', 'all'].includes(vulkan) ? vulkan : undefined

/**
 * Whether all recorded models run. Otherwise only the most different ones do: on Vulkan, which compiles shaders for each model, and on
 * TensorFlow, where other tests cover all of them.
 */
export const runsAllModels = (device: TestedDevice): boolean => device === 'ggml-cpu' || vulkan === 'all'

// Must come before the first search for GPUs, whose result is kept.
if (skippedBecause('ggml-vulkan') === undefined) {
  const settings = simulatedGpu()
  Object.assign(env, settings, { GALLIVM_PERF: env.GALLIVM_PERF ?? settings.GALLIVM_PERF })
}

const opened = new Map<TestedDevice, Backend>()

/** Switches to a device. Unlike the program, this process may switch several times. */
export async function computeOn(device: TestedDevice): Promise<Backend> {
  const known = opened.get(device)
  const backend = known ?? (await openers[device]())
  await tf.setBackend(backend.name.startsWith('tensorflow') ? 'tensorflow' : backend.name)
  if (!known) await probe()
  opened.set(device, backend)
  setActiveBackend(backend)
  return backend
}
