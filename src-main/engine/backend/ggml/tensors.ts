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
import type { HalfType } from '../halves.ts'
import { type GgmlDevice, types } from './device.ts'
import { type Build, LazyGraph, type Value } from './graph.ts'
import { elements, sizesOf } from './sizes.ts'

/** Values that stay in this process, because no device computes with their type. */
interface Foreign {
  readonly values: BackendValues
  references: number
}

type Stored = Value | Foreign

const isForeign = (stored: Stored): stored is Foreign => 'values' in stored

/** A tensor in the shape that an operation needs. */
export type Seen = Pick<TensorInfo, 'dataId' | 'shape'>

/** The tensors of tfjs-core, on a device of ggml. */
export class GgmlTensors extends KernelBackend {
  readonly graph: LazyGraph
  readonly #data = new DataStorage<Stored>(this, engine())

  constructor(device: GgmlDevice) {
    super()
    this.graph = new LazyGraph(device)
  }

  /** The functions that build tensors of graphs. */
  get operations() {
    return this.graph.device.operations
  }

  /** A tensor of `shape` that `build` computes from others. It receives them in the shapes given here. */
  make(shape: number[], inputs: readonly Seen[], build: Build, work?: number): TensorInfo {
    const seen = inputs.map(({ dataId, shape: seenAs }) => {
      const [value, sizes] = [this.#valueOf(dataId), sizesOf(seenAs)]
      // The library would end the process.
      if (elements(value.sizes) !== elements(sizes)) throw new RangeError(`a tensor [${value.sizes}] cannot be seen as [${sizes}]`)
      return { value, sizes }
    })
    return this.#tensor(shape, this.graph.defer(seen, sizesOf(shape), build, work))
  }

  /** What was made, as a tensor that its owner must dispose of. */
  tensorOf(made: TensorInfo): Tensor {
    return engine().makeTensorFromTensorInfo(made, this)
  }

  /** A weight in 16 bits. Its shape says how much memory it uses, so that only those who know its sizes can see it as a matrix. */
  narrow({ dataId, shape }: Seen, type: HalfType): TensorInfo {
    const input = { value: this.#valueOf(dataId), sizes: sizesOf(shape) }
    const cast: Build = ([own = 0]) => this.operations.cast(own, types[type])
    const narrow = this.graph.defer([input], input.sizes, cast, elements(input.sizes), type)
    return this.#tensor([Math.ceil(elements(shape) / 2)], narrow)
  }

  /** A weight as a checkpoint stores it. Its shape says how much memory it uses. */
  writeStored(bytes: Uint8Array, type: StoredType): TensorInfo {
    return this.#tensor([Math.ceil(bytes.byteLength / 4)], this.graph.storeAs(type, bytes))
  }

  /** The same numbers in another shape. */
  share(tensor: TensorInfo, shape = tensor.shape): TensorInfo {
    this.incRef(tensor.dataId)
    return { ...tensor, shape }
  }

  /** The only number of a tensor, if it is known without computing. */
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
    if (isForeign(stored)) throw new TypeError('ggml computes with numbers only.')
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
