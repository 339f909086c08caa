import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'
import type { Dtype } from './dtypes.ts'
import type { Decimals } from './json.ts'

/** One stored tensor. `bytes` is its whole size as `read` returns it. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly bytes: number
  /** The GGUF type of the rows that `readStored` returns, if they are stored unchanged. */
  readonly storedAs?: string
  /** The same type, if it is quantised and `read` only unpacks these rows. */
  readonly quantisedAs?: string
}

/** A range of a tensor's rows, counted through all dimensions but the last. */
export interface Rows {
  first: number
  count: number
}

/** An open model: its config, the list of its tensors, and their values on demand. Nothing is read before it is needed. */
export interface Checkpoint {
  /** The folder or file it was opened from. */
  readonly path: string
  /** The parsed config.json. It is not checked here, because only the model's architecture knows which keys it needs. */
  readonly config: Record<string, unknown>
  /** Which whole numbers in the config are written as decimals, so that the config can be saved unchanged. */
  readonly decimals: Decimals
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /**
   * Only for files with quantised weights, which `read` unpacks: the types of the file's tensors, the one with the most bytes first, and
   * the bytes of all tensors.
   */
  readonly quantised?: { readonly types: readonly string[]; readonly bytes: number } | undefined
  /** Bytes of the largest file, if the tensors are in several. */
  readonly shardBytes?: number
  /** The layout of each block, if the file itself says that some of its blocks lack a submodule or have other widths. */
  readonly blocks?: readonly BlockLayout[] | undefined
  /**
   * Returns rows [first, first + count) as little-endian bytes, by default the whole tensor. The caller may release the memory with
   * `releaseBuffer`. Throws `invalid` for an unknown name, for rows out of range, and if the file shrank.
   */
  read(name: string, rows?: Rows): Promise<Uint8Array>
  /** The same rows as float32 values. */
  readFloat32(name: string, rows?: Rows): Promise<Float32Array>
  /**
   * Returns rows of a tensor with `storedAs` in the form in which a GGUF file stores them. Only GGUF files and folders with experts in
   * MXFP4 have such tensors.
   */
  readStored?(name: string, rows?: Rows): Promise<Uint8Array>
  close(): Promise<void>
}

/** Notes on results from a file with quantised weights. */
export function unpackedNotes({ quantised }: Pick<Checkpoint, 'quantised'>): string[] {
  if (!quantised) return []
  return [`The file stores its weights as ${quantised.types.join(', ')}. All results were computed in float32 from the unpacked weights.`]
}

/** Number of rows of a tensor; for a vector, the number of its entries. */
export const rowCount = (shape: readonly number[]): number =>
  shape.length < 2 ? (shape[0] ?? 1) : shape.slice(0, -1).reduce((product, size) => product * size, 1)

/** Number of values per row; 1 for a vector. */
export const columnCount = (shape: readonly number[]): number => (shape.length < 2 ? 1 : at(shape, shape.length - 1))

/** Where rows are in a tensor's bytes: how many bytes to skip, and how many to read. Throws if the tensor has fewer rows. */
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
