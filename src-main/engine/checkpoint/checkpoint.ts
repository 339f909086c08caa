import { stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import type { Dtype } from './dtypes.ts'
import { openFolder } from './folder.ts'
import { openGguf } from './gguf/open-gguf.ts'

/** One stored tensor; `bytes` is what reading all of it gives. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly bytes: number
}

/** A range of a tensor's first dimension. */
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
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /**
   * Little-endian bytes of rows [first, first + count) of the first dimension, by default of the whole tensor, in memory from
   * `alignedBuffer` that nobody else holds. Throws `invalid` for an unknown name, rows out of range and a file that shrank.
   */
  read(name: string, rows?: Rows): Promise<Uint8Array>
  /** The same as float32. */
  readFloat32(name: string, rows?: Rows): Promise<Float32Array>
  close(): Promise<void>
}

/**
 * Opens a folder with config.json and model.safetensors, or with model.safetensors.index.json and its shards, or a .gguf file.
 * Everything that the headers say is checked against the files before it is trusted; each defect is one EspalierError that names it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const found = await stat(path).catch(() => undefined)
  if (!found)
    throw new EspalierError('not-found', `There is no model at ${path}. Give a folder with config.json and safetensors, or a gguf file.`)
  if (found.isDirectory()) return openFolder(path)
  if (path.toLowerCase().endsWith('.gguf')) return openGguf(path)
  throw new EspalierError('invalid', `${path} is neither a model folder nor a gguf file. Give a folder with config.json and safetensors.`)
}
