import { closeSync, openSync } from 'node:fs'
import { createRequire } from 'node:module'
import { env } from 'node:process'
import util from 'node:util'
import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core'
import * as tf from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import { addonName, findRuntime } from '#runtime/places.mjs'
import { isInstalled } from '#runtime/resources.ts'
import { ownThreads } from '#runtime/threads.ts'
import { findStranger, findTrustProblem, trustedAddon } from '#runtime/trusted.mjs'
import type { Backend } from './active.ts'
import type { Bf16Units, RuntimeProducts, SixteenBitType } from './bf16-ops.ts'
import { loadFused, type OperationRunner, type OwnOperations } from './fused.ts'
import { askDriver, sixteenBitTypeFor } from './gpu-driver.ts'
import { multipliesIn16Bits } from './probe.ts'
import { type Handle, RawOperations } from './raw-operations.ts'

// Not named `require`, because the bundler would replace calls of that name.
const load = createRequire(import.meta.url)

/** Default settings that the library reads once, when it is loaded. The user's own values take precedence. */
const settings = {
  TF_ENABLE_ONEDNN_OPTS: '1',
  TF_CPP_MIN_LOG_LEVEL: '2',
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
}

/** Settings that override the user's. Products in TF32 would pass as float32 and so decide choices. */
const forced = { NVIDIA_TF32_OVERRIDE: '0' }

/** Adds the library's settings to an environment. */
export function prepareEnvironment(environment: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(settings)) environment[name] ??= value
  Object.assign(environment, forced)
}

/** Restores two functions that tfjs-node 4.22 calls, and that Node 23 has removed or deprecated. */
function restoreUtilFunctions(): void {
  const legacy = util as unknown as Record<string, unknown>
  legacy.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined
  legacy.isArray = Array.isArray
}

/** Loads TensorFlow from the cache folder and makes it the backend of tfjs-core. Throws if setup left no runtime there. */
export async function openTensorflow(): Promise<Backend> {
  const runtime = findRuntime()
  if (!runtime) throw new EspalierError('not-found', missingRuntime(isInstalled))
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
  const store: Backend['store'] = (bytes, type) => (typeof type === 'string' ? raw.storeIn16Bits(bytes, type) : undefined)
  if (backend.isUsingGpuDevice) return { ...(await describeGpu(runtime.version)), store }
  const operations = loadFused(runtime.folder, backend)
  return {
    name: 'tensorflow-cpu',
    title: `TensorFlow ${runtime.version} on the CPU, ${plural(threads, 'thread')}${describeOperations(operations)}`,
    reason: runtime.kind === 'gpu' ? 'The GPU build found no usable GPU.' : 'Setup found no NVIDIA GPU.',
    ...operations,
    store,
  }
}

/** Says what to do without TensorFlow. The installed program cannot compile the library's binding, so it uses that of a clone. */
export function missingRuntime(installed: boolean): string {
  return installed
    ? 'TensorFlow is not set up. It computes about three times as fast as ggml on a CPU. Setting it up needs pip, a C++ compiler and a clone of Espalier: run `npm start` there once, and this program uses it too.'
    : 'The TensorFlow runtime is not set up. Run `npm run demo` or `npm start` once; they set it up, or report what is missing.'
}

/** Describes TensorFlow on a GPU: its memory, and its 16-bit products if a check found them correct. */
async function describeGpu(version: string): Promise<Backend> {
  const report = await askDriver()
  const type = sixteenBitTypeFor(report)
  const products = type && new TensorflowProducts(type)
  const usable = products && multipliesIn16Bits(products) ? products : undefined
  return {
    name: 'tensorflow-gpu',
    title: `TensorFlow ${version} on the GPU${describeType(usable && type)}`,
    reason: 'TensorFlow found an NVIDIA GPU.',
    ...(usable ? { runtimeProducts: () => usable } : {}),
    ...(report.freeBytes ? { deviceBytes: report.freeBytes } : {}),
  }
}

const describeType = (type: SixteenBitType | undefined): string =>
  type ? `, ${type} products by TensorFlow, TF32 off` : ', TF32 off; no 16-bit products'

/** Describes our operations for users, and what multiplies 16-bit operands. */
function describeOperations({ fused, bf16 }: OwnOperations): string {
  if (!fused) return ''
  return bf16
    ? `, fused operations, can multiply bfloat16 by ${bf16.units}`
    : ', fused operations; the processor has no units for bfloat16 products'
}

/** Returns the path of the addon to load. Throws if other users could have changed it, or if it was changed. */
function checkRuntime(folder: string): string {
  const stranger = findStranger(folder, 'lib')
  const trustProblem = findTrustProblem(folder) ?? (stranger && `${stranger} Delete the folder and run setup again.`)
  const path = trustProblem === undefined ? trustedAddon(folder, addonName) : undefined
  if (path) return path
  const reason = trustProblem ?? `${addonName} is not the file that setup made. Run setup again.`
  throw new EspalierError('invalid', `The TensorFlow runtime in ${folder} is not loaded: ${reason}`)
}

const standardError = 2

/**
 * Runs `load` and hides the startup lines that the library prints to standard error regardless of its log level. If standard error could
 * not be reopened afterwards (because it is a socket, or the system is not Linux), the lines are shown.
 */
function loadQuietly(load: () => void): void {
  let saved: number
  try {
    saved = openSync(`/proc/self/fd/${standardError}`, 'a')
  } catch {
    load()
    return
  }
  // The system assigns the lowest free descriptor, which is the one just closed.
  closeSync(standardError)
  openSync('/dev/null', 'w')
  try {
    load()
  } finally {
    closeSync(standardError)
    openSync(`/proc/self/fd/${saved}`, 'a')
    closeSync(saved)
  }
}

/** TensorFlow's own products of 16-bit operands. TensorFlow adds in float32 and rounds each sum to 16 bits. */
export class TensorflowProducts implements RuntimeProducts {
  readonly units: Bf16Units
  readonly #type: SixteenBitType
  readonly #raw = new RawOperations()

  constructor(type: SixteenBitType) {
    this.#type = type
    this.units = `TensorFlow ${type}`
  }

  /** The result is boxed; see `RawOperations.box`. */
  pack(weight: Tensor2D): Tensor {
    return this.#raw.box(this.#rounded(weight), weight.size)
  }

  multiply(rows: Tensor2D, weight: Tensor, shape: [number, number]): Tensor2D {
    const attributes = [this.#raw.flag('transpose_a', false), this.#raw.flag('transpose_b', true)]
    const rounded = this.#rounded(rows)
    const product = this.#run('MatMul', attributes, rounded, this.#raw.of(weight))
    this.#raw.delete(rounded)
    return this.#widened(product, shape) as Tensor2D
  }

  multiplyBatch(a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D {
    const operands = [this.#rounded(a), this.#rounded(b)]
    const attributes = [this.#raw.flag('adj_x', false), this.#raw.flag('adj_y', transposeB)]
    const product = this.#run('BatchMatMulV2', attributes, ...operands)
    this.#raw.delete(...operands)
    return this.#widened(product, [a.shape[0], a.shape[1], b.shape[transposeB ? 1 : 2]]) as Tensor3D
  }

  #rounded(values: Tensor): Handle {
    return this.#raw.cast(this.#raw.of(values), 'float32', this.#type)
  }

  #run(name: string, attributes: readonly object[], ...operands: Handle[]): Handle {
    return this.#raw.run(name, [...attributes, this.#raw.type('T', this.#type)], ...operands)
  }

  /** Converts a product to float32 and deletes its 16-bit values. */
  #widened(product: Handle, shape: number[]): Tensor {
    const wide = this.#raw.tensor(this.#raw.cast(product, this.#type, 'float32'), shape)
    this.#raw.delete(product)
    return wide
  }
}
