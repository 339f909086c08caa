import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'
import type { Decimals } from './config-text.ts'
import type { Dtype } from './dtypes.ts'

/** One stored tensor. `bytes` is the size of all of it as read. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly bytes: number
  /** The GGUF type of the rows that `readStored` returns, if they are stored unchanged. */
  readonly storedAs?: string
  /** The same, if it is quantised and to unpack these rows is all that `read` does. */
  readonly quantisedAs?: string
}

/** A range of a tensor's rows, counted through all dimensions but the last. */
export interface Rows {
  first: number
  count: number
}

/** An open model: its configuration, the list of its tensors, and any part of them on demand. Nothing is read before it is needed. */
export interface Checkpoint {
  /** The folder or file it was opened from. */
  readonly path: string
  /** The parsed config.json, unchecked: the model's architecture knows which keys it needs. */
  readonly config: Record<string, unknown>
  /** Which whole numbers of the config are written as decimals, so that it can be written unchanged. */
  readonly decimals: Decimals
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** For a file with quantised weights, which are unpacked when read: its types, the largest share first, and its bytes. */
  readonly quantised?: { readonly types: readonly string[]; readonly bytes: number } | undefined
  /** Bytes of the largest file, if the tensors are in several. */
  readonly shardBytes?: number
  /** The layout of each block, if the file itself says that something is missing. */
  readonly blocks?: readonly BlockLayout[] | undefined
  /**
   * Little-endian bytes of rows [first, first + count), by default of the whole tensor, in new memory from `alignedBuffer`. Throws
   * `invalid` for an unknown name, for rows out of range, and if the file shrank.
   */
  read(name: string, rows?: Rows): Promise<Uint8Array>
  /** The same as float32. */
  readFloat32(name: string, rows?: Rows): Promise<Float32Array>
  /** Rows in the form of a GGUF file, of a tensor with `storedAs`: a GGUF file's own, or those of experts in MXFP4. */
  readStored?(name: string, rows?: Rows): Promise<Uint8Array>
  close(): Promise<void>
}

/** Notes on results from a file with quantised weights. */
export function unpackedNotes({ quantised }: Pick<Checkpoint, 'quantised'>): string[] {
  if (!quantised) return []
  return [`The file stores its weights as ${quantised.types.join(', ')}. All results were computed in float32 from the unpacked weights.`]
}

/** Number of rows of a tensor; for a vector, its entries. */
export const rowCount = (shape: readonly number[]): number =>
  shape.length < 2 ? (shape[0] ?? 1) : shape.slice(0, -1).reduce((product, size) => product * size, 1)

/** Number of values per row; 1 for a vector. */
export const columnCount = (shape: readonly number[]): number => (shape.length < 2 ? 1 : at(shape, shape.length - 1))

/** The bytes of rows, from the start of the tensor. Throws if the tensor has fewer rows. */
export function byteRange(tensor: TensorInfo, rows?: Rows): { skip: number; bytes: number } {
  if (!rows) return { skip: 0, bytes: tensor.bytes }
  const total = rowCount(tensor.shape)
  const { first, count } = rows
  if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 0 || first + count > total) {
    throw new EspalierError('invalid', `Rows ${first} to ${first + count} of tensor ${tensor.name} were requested, but it has ${total}.`)
  }
  const rowBytes = total === 0 ? 0 : tensor.bytes / total
  return { skip: first * rowBytes, bytes: count * rowBytes }
}
