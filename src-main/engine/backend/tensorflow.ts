import { createRequire } from 'node:module'
import { env } from 'node:process'
import util from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import { addonName, findRuntime } from '#runtime/places.mjs'
import { ownThreads } from '#runtime/threads.ts'
import { findStranger, trustedAddon } from '#runtime/trusted.mjs'
import type { Backend } from './active.ts'
import { loadFused, type OperationRunner, type OwnOperations } from './fused.ts'
import { askDriver, halfTypeFor } from './gpu-driver.ts'
import { HalfProducts } from './half-products.ts'
import type { HalfType } from './halves.ts'
import { multipliesHalves } from './probe.ts'
import { loadQuietly } from './quiet-load.ts'
import { RawOperations } from './raw-operations.ts'

// Not named `require`, which the bundler would treat as its own.
const load = createRequire(import.meta.url)

/** Settings that the library reads once, when it is loaded. Values set by the user are kept. */
const settings = {
  TF_ENABLE_ONEDNN_OPTS: '1',
  TF_CPP_MIN_LOG_LEVEL: '2',
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
}

/** Settings that override the user's: products in TF32 would count as float32 and decide. */
const forced = { NVIDIA_TF32_OVERRIDE: '0' }

/** The environment that the library is loaded in. */
export function prepareEnvironment(environment: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(settings)) environment[name] ??= value
  Object.assign(environment, forced)
}

/** tfjs-node 4.22 calls two functions that Node 23 and later have removed or deprecated. */
function restoreUtilFunctions(): void {
  const legacy = util as unknown as Record<string, unknown>
  legacy.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined
  legacy.isArray = Array.isArray
}

/** Loads TensorFlow from the cache folder and makes it the backend of tfjs-core. Throws if setup left no runtime there. */
export async function openTensorflow(): Promise<Backend> {
  const runtime = findRuntime()
  if (!runtime)
    throw new EspalierError(
      'not-found',
      'The TensorFlow runtime is not set up. Run `npm run demo` or `npm start` once; they say what is missing.',
    )
  const binding = checkRuntime(runtime.folder)
  prepareEnvironment(env)
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
  const threads = ownThreads()
  const raw = new RawOperations()
  const store: Backend['store'] = (bytes, type) => (typeof type === 'string' ? raw.storeHalves(bytes, type) : undefined)
  if (backend.isUsingGpuDevice) return { ...(await describeGpu(runtime.version)), store }
  const own = loadFused(runtime.folder, backend)
  return {
    name: 'tensorflow-cpu',
    title: `TensorFlow ${runtime.version} on the CPU, ${plural(threads, 'thread')}${describeOwn(own)}`,
    reason: runtime.kind === 'gpu' ? 'The GPU build found no usable GPU.' : 'Setup found no NVIDIA GPU.',
    ...own,
    store,
  }
}

/** A GPU's own memory, and 16-bit products that were checked to be correct. */
async function describeGpu(version: string): Promise<Backend> {
  const report = await askDriver()
  const type = halfTypeFor(report)
  const products = type && new HalfProducts(type)
  const usable = products && multipliesHalves(products) ? products : undefined
  return {
    name: 'tensorflow-gpu',
    title: `TensorFlow ${version} on the GPU${describeHalfType(usable && type)}`,
    reason: 'An NVIDIA GPU answered.',
    ...(usable ? { halfProducts: () => usable } : {}),
    ...(report.freeBytes ? { deviceBytes: report.freeBytes } : {}),
  }
}

const describeHalfType = (type: HalfType | undefined): string =>
  type ? `, ${type} products by TensorFlow, TF32 off` : ', TF32 off; no 16-bit products'

/** A description of our operations, and of what multiplies 16-bit operands. */
function describeOwn({ fused, halves }: OwnOperations): string {
  if (!fused) return ''
  return halves
    ? `, fused operations, bfloat16 products by ${halves.units}`
    : ', fused operations; the processor has no units for bfloat16 products'
}

/** The addon to load. Throws if other users could have changed it, or did. */
function checkRuntime(folder: string): string {
  const stranger = findStranger(folder)
  const path = stranger === undefined ? trustedAddon(folder, addonName) : undefined
  if (path) return path
  const reason = stranger ?? `${addonName} is not the file that setup made. Run setup again.`
  throw new EspalierError('invalid', `The TensorFlow runtime in ${folder} is not loaded: ${reason}`)
}
