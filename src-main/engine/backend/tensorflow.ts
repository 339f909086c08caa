import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { env } from 'node:process'
import util from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import { addonName, findRuntime } from '../../setup/places.mjs'
import { findStranger, trustedAddon } from '../../setup/trusted.mjs'
import type { Backend } from './active.ts'
import { type FusedOperations, loadFused, type OperationRunner } from './fused.ts'
import { loadQuietly } from './quiet-load.ts'

// Not named `require`: the bundler would take it for its own.
const load = createRequire(import.meta.url)

/** Settings that the library reads once, when it is loaded. Values that the user has set stay. */
const settings = {
  TF_ENABLE_ONEDNN_OPTS: '1',
  TF_CPP_MIN_LOG_LEVEL: '2',
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  NVIDIA_TF32_OVERRIDE: '0',
}

/** tfjs-node 4.22 calls two functions that Node 23 and later no longer have or deprecate. */
function restoreUtilFunctions(): void {
  const legacy = util as unknown as Record<string, unknown>
  legacy.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined
  legacy.isArray = Array.isArray
}

/** Loads TensorFlow from the cache folder and makes it the backend of tfjs-core. Throws when set-up left no runtime there. */
export async function openTensorflow(): Promise<Backend> {
  const runtime = findRuntime()
  if (!runtime)
    throw new EspalierError(
      'not-found',
      'The TensorFlow runtime is not set up. Run `npm run demo` or `npm start` once; they say what is missing.',
    )
  const binding = checkRuntime(runtime.folder)
  for (const [name, value] of Object.entries(settings)) env[name] ??= value
  restoreUtilFunctions()
  const addon = { exports: {} as unknown }
  loadQuietly(() => process.dlopen(addon, binding))
  const { NodeJSKernelBackend } = load('@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js') as {
    NodeJSKernelBackend: new (binding: unknown, packageName: string) => tf.KernelBackend & OperationRunner & { isUsingGpuDevice: boolean }
  }
  const backend = new NodeJSKernelBackend(addon.exports, '@tensorflow/tfjs-node-gpu')
  load('@tensorflow/tfjs-node-gpu/dist/register_all_kernels.js')
  tf.registerBackend('tensorflow', () => backend, 3)
  await tf.setBackend('tensorflow')
  const threads = env.TF_NUM_INTRAOP_THREADS ?? String(cpus().length)
  const gpu = backend.isUsingGpuDevice
  const fused = gpu ? undefined : loadFused(runtime.folder, backend)
  return {
    name: gpu ? 'tensorflow-gpu' : 'tensorflow-cpu',
    title: gpu
      ? `TensorFlow ${runtime.version} on the GPU`
      : `TensorFlow ${runtime.version} on the CPU, ${threads} threads${describeFused(fused)}`,
    reason: gpu
      ? 'An NVIDIA GPU answered.'
      : runtime.kind === 'gpu'
        ? 'The GPU build found no usable GPU.'
        : 'No NVIDIA GPU was found at set-up.',
    anyProducts: true,
    ...(fused ? { fused } : {}),
  }
}

/** Which operations of ours there are, and what multiplies 16-bit operands. */
function describeFused(fused: FusedOperations | undefined): string {
  if (!fused) return ''
  return fused.halves
    ? `, fused operations, bfloat16 products by ${fused.halves.units}`
    : ', fused operations; the processor has no units for bfloat16 products'
}

/** The addon to load. Throws when others could have changed it, or did. */
function checkRuntime(folder: string): string {
  const stranger = findStranger(folder)
  const path = stranger === undefined ? trustedAddon(folder, addonName) : undefined
  if (path) return path
  const reason = stranger ?? `${addonName} is not the file that set-up made. Set up again.`
  throw new EspalierError('invalid', `The TensorFlow runtime in ${folder} is not loaded: ${reason}`)
}
