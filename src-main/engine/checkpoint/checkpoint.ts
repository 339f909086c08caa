import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'
import type { Decimals } from './config-text.ts'
import type { Dtype } from './dtypes.ts'

/** One stored tensor; `bytes` is what reading all of it gives. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly bytes: number
  /** The GGUF type that `readStored` gives its rows in, where they are stored as they are. */
  readonly storedAs?: string
}

/** A range of a tensor's rows, counted through all dimensions but the last. */
export interface Rows {
  first: number
  count: number
}

/** An open model: its configuration, what tensors it has, and any part of them on demand. Nothing is read before it is asked for. */
export interface Checkpoint {
  /** The folder or file it was opened from. */
  readonly path: string
  /** The parsed config.json, unchecked: the model's architecture knows which keys it needs. */
  readonly config: Record<string, unknown>
  /** Which of the config's whole numbers are decimals, so that it can be written as it came. */
  readonly decimals: Decimals
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** Of a file with quantised weights, which are unpacked when they are read: its types, the largest share first, and its bytes. */
  readonly quantised?: { readonly types: readonly string[]; readonly bytes: number } | undefined
  /** Bytes of the largest of several files, where the tensors lie in several. */
  readonly shardBytes?: number
  /** What is left of each block, where the file itself says that something is missing. */
  readonly blocks?: readonly BlockLayout[] | undefined
  /**
   * Little-endian bytes of rows [first, first + count), by default of the whole tensor, in memory from
   * `alignedBuffer` of its own. Throws `invalid` for an unknown name, rows out of range and a file that shrank.
   */
  read(name: string, rows?: Rows): Promise<Uint8Array>
  /** The same as float32. */
  readFloat32(name: string, rows?: Rows): Promise<Float32Array>
  /** Rows as a GGUF file has them, of a tensor that has `storedAs`: a GGUF file's own, or those of experts in MXFP4. */
  readStored?(name: string, rows?: Rows): Promise<Uint8Array>
  close(): Promise<void>
}

/** What a reader of computed numbers should know of a file with quantised weights. */
export function unpackedNotes({ quantised }: Pick<Checkpoint, 'quantised'>): string[] {
  if (!quantised) return []
  return [
    `The file stores its weights as ${quantised.types.join(', ')}. Perplexity and all else was computed as float32 from unpacked weights.`,
  ]
}

/** Rows of a tensor; of a vector its entries. */
export const rowCount = (shape: readonly number[]): number =>
  shape.length < 2 ? (shape[0] ?? 1) : shape.slice(0, -1).reduce((product, size) => product * size, 1)

/** Values of a row; of a vector 1. */
export const columnCount = (shape: readonly number[]): number => (shape.length < 2 ? 1 : at(shape, shape.length - 1))

/** The bytes that rows take, counted from the start of the tensor. Throws when the tensor has fewer rows. */
export function byteRange(tensor: TensorInfo, rows?: Rows): { skip: number; bytes: number } {
  if (!rows) return { skip: 0, bytes: tensor.bytes }
  const total = rowCount(tensor.shape)
  const { first, count } = rows
  if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 0 || first + count > total) {
    throw new EspalierError('invalid', `Rows ${first} to ${first + count} of tensor ${tensor.name} were asked for, it has ${total}.`)
  }
  const rowBytes = total === 0 ? 0 : tensor.bytes / total
  return { skip: first * rowBytes, bytes: count * rowBytes }
}
