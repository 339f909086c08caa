import { cpus, loadavg } from 'node:os'
import { EspalierError } from '#contract/errors.ts'
import type { StoredType } from '../active.ts'
import type { SixteenBitType } from '../bf16-ops.ts'
import { type Address, elements, ggmlFunctions, newContext, type OperationName, type Sizes, threadSetter } from './functions.ts'
import { DeviceMemory, type Place } from './memory.ts'
import type { QuantisedType } from './quantised-types.ts'

/** Numbers as devices compute with them. */
export type Numbers = Float32Array | Int32Array

/** The type of a tensor's values: numbers, or a weight in its checkpoint's type. */
export type ValueType = 'float32' | 'int32' | StoredType

/** Functions that add an operation to a graph: they take tensors and numbers, and return the resulting tensor. */
export type Operations = Readonly<Record<OperationName, (...parameters: readonly number[]) => Address>>

/** `GGML_TYPE_*`. */
export const types = { float32: 0, float16: 1, int8: 24, int32: 26, bfloat16: 30 } as const

const numberOf = (type: ValueType): number => (typeof type === 'string' ? types[type] : type.number)

/** The number of values and of bytes in a type's smallest unit. */
function unitOf(type: ValueType): Pick<QuantisedType, 'values' | 'bytes'> {
  return typeof type === 'string' ? { values: 1, bytes: type === 'float16' || type === 'bfloat16' ? 2 : 4 } : type
}

/** The bytes that values of a type take. */
export function bytesOf(type: ValueType, sizes: Sizes): number {
  const { values, bytes } = unitOf(type)
  return (elements(sizes) / values) * bytes
}

/** The number of values of a type in `length` bytes. */
export function countOf(type: ValueType, length: number): number {
  const { values, bytes } = unitOf(type)
  return (length / bytes) * values
}

/** `GGML_STATUS_ALLOC_FAILED`. */
const allocationFailed = -2

/** The maximum number of operations in one graph, and the memory for describing them and their tensors. */
const graphSize = 2 ** 14
const contextBytes = 2 ** 24

/**
 * Operations of less work than this, in multiplications and additions, run on one thread. Threads spin after every operation to wait for
 * each other, which costs milliseconds if another program uses one of the processors.
 */
const minimumSharedWork = 2 ** 18

/** Whether the processors are mostly free, so that several threads are worth using. */
const isQuiet = (): boolean => (loadavg()[0] ?? 0) < 1.5 * cpus().length

/** A device that stores tensors and computes graphs. */
export class GgmlDevice {
  readonly memory: DeviceMemory
  readonly operations: Operations
  readonly #ggml = ggmlFunctions()
  readonly #backend: Address
  readonly #context = newContext(contextBytes)
  /** For tensors that are only used to copy numbers. */
  readonly #copies = newContext(2 ** 12)
  readonly #allocator: Address
  readonly #threads: number
  readonly #setThreads: ((threads: number) => void) | undefined

  /** Opens a device, given ggml's handle. `threads` matters only if the device is the processor. */
  constructor(handle: unknown, threads: number) {
    const ggml = this.#ggml
    this.#backend = ggml.open(handle, null) as Address
    if (!this.#backend) throw new EspalierError('not-found', 'ggml cannot open the device. Check its driver, or choose another backend.')
    this.#threads = threads
    this.#setThreads = threadSetter(handle, this.#backend)
    this.#allocator = ggml.newAllocator(ggml.bufferType(this.#backend)) as Address
    this.memory = new DeviceMemory(this.#backend)
    const context = this.#context
    const bound = Object.entries(ggml).map(([name, run]) => [name, (...parameters: number[]) => run(context, ...parameters) as Address])
    this.operations = Object.fromEntries(bound) as Operations
  }

  /** Products are faster if the length of their rows is a multiple of this power of two: on the processor, almost twice as fast. */
  get fastDepth(): number {
    return this.#setThreads ? 16 : 1
  }

  /** Releases all memory and closes the device. Nothing can be computed on it afterwards. */
  dispose(): void {
    this.#ggml.freeAllocator(this.#allocator)
    this.memory.dispose()
    this.#ggml.close(this.#backend)
  }

  /** Starts an empty graph, which invalidates the tensors of the previous one. */
  newGraph(): Address {
    this.#ggml.reset(this.#context)
    return this.#ggml.newGraph(this.#context, graphSize, false) as Address
  }

  /** Adds a tensor to the graph that is being built, with the values at a place in memory. */
  tensorAt(place: Place, sizes: Sizes, type: ValueType): Address {
    const tensor = this.operations.newTensor(numberOf(type), ...sizes)
    this.store(tensor, place)
    return tensor
  }

  /** Lets a tensor of the graph have its values at a place in memory. */
  store(tensor: Address, { buffer, address }: Place): void {
    this.#ggml.place(buffer, tensor, address)
  }

  expand(graph: Address, tensor: Address): void {
    this.#ggml.expand(graph, tensor)
  }

  /** Computes a graph. `averageWork` is the average work of its operations. Returns the number of operations. */
  compute(graph: Address, averageWork: number): number {
    this.#setThreads?.(averageWork >= minimumSharedWork && isQuiet() ? this.#threads : 1)
    if (!this.#ggml.allocateGraph(this.#allocator, graph)) throw noMemoryLeft()
    const status = this.#ggml.compute(this.#backend, graph) as number
    if (status === allocationFailed) throw noMemoryLeft()
    if (status !== 0)
      throw new EspalierError(
        'internal',
        `The device stopped computing (ggml's status ${status}). It may have been lost. Run again, or choose another backend.`,
      )
    return this.#ggml.nodes(graph) as number
  }

  /** Whether the device can round a weight to this type and multiply by it. If it cannot, these operations would end the process. */
  multiplies(type: SixteenBitType): boolean {
    const { newTensor, cast, product, reset, supports } = this.#ggml
    reset(this.#copies)
    const weight = newTensor(this.#copies, types.float32, 64, 64, 1, 1) as Address
    const half = cast(this.#copies, weight, types[type]) as Address
    return [half, product(this.#copies, half, weight)].every((made) => supports(this.#backend, made))
  }

  /** Whether the device can unpack rows of a weight that is stored in this type. */
  unpacks(type: StoredType): boolean {
    const { newTensor, rows, reset, supports } = this.#ggml
    reset(this.#copies)
    const weight = newTensor(this.#copies, numberOf(type), 256, 1, 1, 1) as Address
    const first = newTensor(this.#copies, types.int32, 1, 1, 1, 1) as Address
    return Boolean(supports(this.#backend, rows(this.#copies, weight, first)))
  }

  upload(place: Place, numbers: Numbers | Uint8Array): void {
    this.#ggml.upload(this.#copyOf(place, numbers.byteLength), numbers, 0, numbers.byteLength)
  }

  download(place: Place, sizes: Sizes): Float32Array {
    const numbers = new Float32Array(elements(sizes))
    this.#ggml.download(this.#copyOf(place, numbers.byteLength), numbers, 0, numbers.byteLength)
    return numbers
  }

  #copyOf(place: Place, bytes: number): Address {
    this.#ggml.reset(this.#copies)
    const tensor = this.#ggml.newTensor(this.#copies, types.int8, bytes, 1, 1, 1) as Address
    this.store(tensor, place)
    return tensor
  }
}

const noMemoryLeft = () =>
  new EspalierError('out-of-memory', 'The device has no memory left to compute in. Use fewer or shorter windows, or another device.')
