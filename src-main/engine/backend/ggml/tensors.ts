import {
  type BackendValues,
  type DataId,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type Tensor,
  type TensorInfo,
} from '@tensorflow/tfjs-core'
import type { StoredType } from '../active.ts'
import type { SixteenBitType } from '../bf16-ops.ts'
import { type GgmlDevice, types } from './device.ts'
import { elements, sizesOf } from './functions.ts'
import { type Build, LazyGraph, type Value } from './graph.ts'

/** Values that stay in this process, because devices do not compute with their type. */
interface Foreign {
  readonly values: BackendValues
  references: number
}

type Stored = Value | Foreign

const isForeign = (stored: Stored): stored is Foreign => 'values' in stored

/** A tensor, and the shape in which an operation reads it. */
export type Seen = Pick<TensorInfo, 'dataId' | 'shape'>

/** The tensors of tfjs-core, on a device of ggml. */
export class GgmlTensors extends KernelBackend {
  readonly graph: LazyGraph
  readonly #data = new DataStorage<Stored>(this, engine())

  constructor(device: GgmlDevice) {
    super()
    this.graph = new LazyGraph(device)
  }

  /** The functions that add operations to a graph. */
  get operations() {
    return this.graph.device.operations
  }

  /** Makes a tensor of `shape` that `build` computes from `inputs`, which it receives in the shapes given there. */
  make(shape: number[], inputs: readonly Seen[], build: Build, work?: number): TensorInfo {
    const seen = inputs.map(({ dataId, shape: seenAs }) => {
      const [value, sizes] = [this.#valueOf(dataId), sizesOf(seenAs)]
      // ggml would end the process.
      if (elements(value.sizes) !== elements(sizes)) throw new RangeError(`a tensor [${value.sizes}] cannot be seen as [${sizes}]`)
      return { value, sizes }
    })
    return this.#tensor(shape, this.graph.defer(seen, sizesOf(shape), build, work))
  }

  /** Turns the result of `make` into a tensor, which the caller must dispose of. */
  tensorOf(made: TensorInfo): Tensor {
    return engine().makeTensorFromTensorInfo(made, this)
  }

  /**
   * Rounds a weight to 16 bits. The result's shape only tells how much memory it uses; to read it as a matrix, callers must know its real
   * shape.
   */
  narrow({ dataId, shape }: Seen, type: SixteenBitType): TensorInfo {
    const input = { value: this.#valueOf(dataId), sizes: sizesOf(shape) }
    const cast: Build = ([weight = 0]) => this.operations.cast(weight, types[type])
    const narrow = this.graph.defer([input], input.sizes, cast, elements(input.sizes), type)
    return this.#tensor([Math.ceil(elements(shape) / 2)], narrow)
  }

  /** Stores a weight in its checkpoint's type. The result's shape only tells how much memory it uses. */
  writeStored(bytes: Uint8Array, type: StoredType): TensorInfo {
    return this.#tensor([Math.ceil(bytes.byteLength / 4)], this.graph.storeAs(type, bytes))
  }

  /** Returns a tensor that shares another's values, in `shape`. */
  share(tensor: TensorInfo, shape = tensor.shape): TensorInfo {
    this.incRef(tensor.dataId)
    return { ...tensor, shape }
  }

  /** The number in a tensor of one element, if it is known without computing anything; otherwise undefined. */
  scalar({ dataId, shape }: TensorInfo): number | undefined {
    const stored = this.#data.get(dataId)
    return elements(shape) === 1 && !isForeign(stored) ? stored.host?.[0] : undefined
  }

  #tensor(shape: number[], value: Stored, dtype: DataType = 'float32'): TensorInfo {
    const dataId = {}
    this.#data.set(dataId, value)
    return { dataId, shape, dtype }
  }

  #valueOf(dataId: DataId): Value {
    const stored = this.#data.get(dataId)
    if (isForeign(stored)) throw new TypeError('ggml computes only with float32 and int32 tensors.')
    return stored
  }

  #store(values: BackendValues | null, shape: readonly number[], dtype: DataType): Stored {
    if (dtype !== 'float32' && dtype !== 'int32') return { values: values ?? new Uint8Array(elements(shape)), references: 1 }
    const typed = dtype === 'float32' ? Float32Array : Int32Array
    const numbers = values instanceof typed ? values : typed.from((values ?? new typed(elements(shape))) as ArrayLike<number>)
    return this.graph.store(numbers, sizesOf(shape))
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    return this.#tensor(shape, this.#store(values, shape, dtype)).dataId
  }

  override move(dataId: DataId, values: BackendValues, shape: number[], dtype: DataType, references: number): void {
    this.#data.set(dataId, Object.assign(this.#store(values, shape, dtype), { references }))
  }

  override readSync(dataId: DataId): BackendValues {
    const stored = this.#data.get(dataId)
    return isForeign(stored) ? stored.values : this.graph.read(stored)
  }

  override async read(dataId: DataId): Promise<BackendValues> {
    return this.readSync(dataId)
  }

  override refCount(dataId: DataId): number {
    return this.#data.has(dataId) ? this.#data.get(dataId).references : 0
  }

  override incRef(dataId: DataId): void {
    this.#data.get(dataId).references++
  }

  decRef(dataId: DataId): void {
    if (this.#data.has(dataId)) this.#data.get(dataId).references--
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.#data.has(dataId)) return true
    const stored = this.#data.get(dataId)
    stored.references--
    if (stored.references > 0 && !force) return false
    this.#data.delete(dataId)
    if (!isForeign(stored)) this.graph.release(stored)
    return true
  }

  override numDataIds(): number {
    return this.#data.numDataIds()
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false }
  }

  override floatPrecision(): 32 {
    return 32
  }

  override epsilon(): number {
    return 1e-7
  }

  override dispose(): void {
    this.graph.device.dispose()
  }
}
