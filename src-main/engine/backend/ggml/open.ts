import { registerBackend, setBackend, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import { ggmlVersion } from '#runtime/ggml.mjs'
import { ownThreads } from '#runtime/threads.ts'
import type { Backend, StoredType, StoredWeight } from '../active.ts'
import type { RuntimeProducts, SixteenBitType } from '../bf16-ops.ts'
import { multipliesIn16Bits } from '../probe.ts'
import { composedOperations } from './composed.ts'
import { GgmlDevice } from './device.ts'
import { elements } from './functions.ts'
import { ggmlDevices, type ListedDevice, loadVulkan } from './ggml-devices.ts'
import { registerKernels } from './plain-kernels.ts'
import { dequantise, type QuantisedType } from './quantised-types.ts'
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

/** ggml's products with weights in 16 bits. On the processor, ggml rounds the other operand too. */
class GgmlProducts implements RuntimeProducts {
  readonly units: `ggml ${SixteenBitType}`
  readonly #tensors: GgmlTensors
  readonly #type: SixteenBitType

  constructor(tensors: GgmlTensors, type: SixteenBitType) {
    this.units = `ggml ${type}`
    this.#tensors = tensors
    this.#type = type
  }

  pack(weight: Tensor2D): Tensor {
    return this.#tensors.tensorOf(this.#tensors.narrow(weight, this.#type))
  }

  multiply(rows: Tensor2D, { dataId }: Tensor, shape: [number, number]): Tensor2D {
    const { operations } = this.#tensors
    const weight = { dataId, shape: [shape[1], rows.shape[1]] }
    const work = 2 * rows.size * shape[1]
    const made = this.#tensors.make(shape, [rows, weight], ([input = 0, half = 0]) => operations.product(half, input), work)
    return this.#tensors.tensorOf(made) as Tensor2D
  }
}

/**
 * Finds the device's 16-bit products, undefined without. The first call checks them: on Vulkan it compiles shaders that float32 does not need.
 */
export function findRuntimeProducts(tensors: GgmlTensors, type: SixteenBitType): () => RuntimeProducts | undefined {
  let found: { readonly products?: RuntimeProducts } | undefined
  const check = () => {
    const products = new GgmlProducts(tensors, type)
    return tensors.graph.device.multiplies(type) && multipliesIn16Bits(products) ? { products } : {}
  }
  return () => {
    found ??= check()
    return found.products
  }
}

/**
 * Returns a function that stores a weight on a device in its checkpoint's type. Each type is checked when its first weight is stored. If
 * the check fails, the function returns undefined for every weight of that type.
 */
export function storeOn(tensors: GgmlTensors): NonNullable<Backend['store']> {
  const checked = new Map<string, boolean>()
  return (bytes, type) => {
    const name = typeof type === 'string' ? type : type.name
    const isCorrect = checked.get(name) ?? unpacksCorrectly(tensors, type)
    checked.set(name, isCorrect)
    return isCorrect ? storeWeight(tensors, bytes, type) : undefined
  }
}

function storeWeight(tensors: GgmlTensors, bytes: Uint8Array, type: StoredType): StoredWeight {
  const { dataId } = tensors.writeStored(bytes, type)
  return {
    usesBytes: false,
    unpack(shape) {
      const columns = shape.at(-1) ?? 1
      const rows = elements(shape) / columns
      const everyRow = tensors.write(
        Int32Array.from({ length: rows }, (_, row) => row),
        [rows],
        'int32',
      )
      const stored = [
        { dataId, shape: [rows, columns] },
        { dataId: everyRow, shape: [rows] },
      ]
      const unpacked = tensors.make([...shape], stored, ([weight = 0, indices = 0]) => tensors.operations.rows(weight, indices))
      tensors.disposeData(everyRow)
      return tensors.tensorOf(unpacked)
    },
    dispose: () => void tensors.disposeData(dataId),
  }
}

/**
 * How far a value that the device unpacks may be from the value that libggml-base unpacks, relative to the largest value of the block. A
 * GPU may use fused multiply-add, which rounds differently.
 */
const tolerance = 1e-6

/**
 * The smallest normal float32 number. The spacing of float32 numbers does not shrink below it, so the largest value of a block counts as at
 * least this much.
 */
const smallestNormal = 2 ** -126

/**
 * Returns whether a device unpacks a type to the same values as this process, within the tolerance. A device that flushes subnormal float16
 * numbers to zero fails, because it loses small scales.
 */
function unpacksCorrectly(tensors: GgmlTensors, type: StoredType): boolean {
  if (!tensors.graph.device.unpacks(type)) return false
  // A bfloat16 number is the upper half of a float32 number, so unpacking computes nothing that could go wrong.
  if (type === 'bfloat16') return true
  const { bytes, expected } = type === 'float16' ? subnormalHalves() : pseudorandomBlocks(type)
  const stored = storeWeight(tensors, bytes, type)
  const [count, width] = type === 'float16' ? [expected.length, 1] : [expected.length / type.values, type.values]
  const unpacked = stored.unpack([count, width])
  const found = unpacked.dataSync()
  unpacked.dispose()
  stored.dispose()
  return Array.from({ length: count }, (_, index) => index * width).every((first) => {
    const block = expected.subarray(first, first + width)
    const largest = block.reduce((maximum, value) => Math.max(maximum, Math.abs(value)), smallestNormal)
    // The pseudorandom bits of a scale may encode infinity or NaN. Such blocks are not compared.
    return !Number.isFinite(largest) || block.every((value, i) => Math.abs(value - Number(found[first + i])) <= tolerance * largest)
  })
}

/** Returns all positive subnormal float16 numbers, and their values. */
function subnormalHalves() {
  const bits = Uint16Array.from({ length: 1023 }, (_, i) => i + 1)
  return { bytes: new Uint8Array(bits.buffer), expected: Float32Array.from(bits, (value) => value * 2 ** -24) }
}

/** Returns blocks of pseudorandom bits, some of which have subnormal scales, and their values as this process unpacks them. */
function pseudorandomBlocks(type: QuantisedType) {
  const count = 256
  const bytes = Uint8Array.from({ length: count * type.bytes }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24)
  const expected = new Float32Array(count * type.values)
  dequantise(type, bytes, expected)
  return { bytes, expected }
}
