import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { openRegular } from '#runtime/small-file.ts'
import { unfinishedName } from '#runtime/write-whole.ts'
import { byteRange, type Rows, type TensorInfo } from './checkpoint.ts'
import { type FloatDtype, fromFloat32, toFloat32 } from './dtypes.ts'
import { readBytes } from './regular-file.ts'
import type { StoredTensor } from './safetensors/safetensors-header.ts'
import { openSafetensors } from './safetensors/safetensors-header.ts'
import { writeSafetensors } from './safetensors/write-safetensors.ts'

/** Values to store, as float32 unless a narrower dtype is given. */
export interface NamedTensor {
  readonly values: Float32Array
  readonly shape: readonly number[]
  readonly dtype?: FloatDtype
}

export type NamedTensors = ReadonlyMap<string, NamedTensor>

/** A tensor whose values are computed only when it is written. */
export interface LateTensor extends Omit<NamedTensor, 'values'> {
  read(): Promise<Float32Array>
}

export type TensorsToStore = ReadonlyMap<string, NamedTensor | LateTensor>

interface Place {
  readonly file: string
  readonly stored: StoredTensor
}

/** Named tensors in files with known sizes and hashes. Headers and vectors are kept in memory; matrices are read on demand. */
export class StoredTensors {
  readonly files: readonly TensorFile[]
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly #places: ReadonlyMap<string, Place>
  readonly #vectors: ReadonlyMap<string, Float32Array>

  private constructor(files: readonly TensorFile[], places: ReadonlyMap<string, Place>, vectors: ReadonlyMap<string, Float32Array>) {
    this.files = files
    this.#places = places
    this.#vectors = vectors
    this.tensors = new Map([...places].map(([name, { stored }]) => [name, stored]))
  }

  /** Opens files that must be unchanged since they were written. Throws `disk` if one is missing or has changed. */
  static async open(files: readonly TensorFile[]): Promise<StoredTensors> {
    const places = new Map<string, Place>()
    const vectors = new Map<string, Float32Array>()
    for (const entry of files) {
      await requireUnchanged(entry)
      const { tensors, handle } = await openSafetensors(entry.file)
      try {
        for (const [name, stored] of tensors) {
          places.set(name, { file: entry.file, stored })
          if (stored.shape.length !== 1) continue
          vectors.set(name, toFloat32(await readBytes(handle, stored.begin, stored.bytes, entry.file), stored.dtype))
        }
      } finally {
        await handle.close()
      }
    }
    return new StoredTensors(files, places, vectors)
  }

  /** Joins the tensors of all parts. A later tensor replaces an earlier one with the same name. */
  static join(...parts: readonly StoredTensors[]): StoredTensors {
    return new StoredTensors(
      parts.flatMap(({ files }) => files),
      new Map(parts.flatMap((part) => [...part.#places])),
      new Map(parts.flatMap((part) => [...part.#vectors])),
    )
  }

  /** Reads little-endian bytes, as `Checkpoint.read` does. */
  async read(name: string, rows?: Rows): Promise<Uint8Array> {
    const { file, stored } = this.#place(name)
    const { skip, bytes } = byteRange(stored, rows)
    const handle = await openRegular(file)
    try {
      return await readBytes(handle, stored.begin + skip, bytes, file)
    } finally {
      await handle.close()
    }
  }

  /** A tensor of one dimension, which is in memory. */
  vector(name: string): Float32Array {
    return this.#vectors.get(name) ?? this.#missing(name)
  }

  async readFloat32(name: string, rows?: Rows): Promise<Float32Array> {
    return toFloat32(await this.read(name, rows), this.#place(name).stored.dtype)
  }

  #place(name: string): Place {
    return this.#places.get(name) ?? this.#missing(name)
  }

  #missing(name: string): never {
    throw new EspalierError('invalid', `The plan's tensor "${name}" is missing from its files. Prune again.`, { tensor: name })
  }
}

/** Writes tensors into a file in `folder`, which gets its final name, made of its size and hash, when it is complete and on disk. */
export async function writeTensorFile(folder: string, tensors: TensorsToStore): Promise<TensorFile> {
  await mkdir(folder, { recursive: true })
  const unfinished = unfinishedName(join(folder, 'tensors'))
  const entries = [...tensors].map(([name, tensor]) => {
    const { shape, dtype = 'F32' } = tensor
    return { name, shape, dtype, bytes: async () => fromFloat32('values' in tensor ? tensor.values : await tensor.read(), dtype) }
  })
  // Like the history, only the user may read what it refers to.
  await writeFile(unfinished, '', { mode: 0o600 })
  await writeSafetensors(unfinished, entries)
  const { size: bytes } = await stat(unfinished)
  const sha256 = await hashOf(unfinished)
  const file = join(folder, `${bytes}-${sha256}.safetensors`)
  await rename(unfinished, file)
  return { file, bytes, sha256 }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

async function requireUnchanged({ file, bytes, sha256 }: TensorFile): Promise<void> {
  const found = await stat(file).catch(() => undefined)
  if (found?.size === bytes && (await hashOf(file)) === sha256) return
  throw new EspalierError('disk', `The stored tensors ${file} are missing or damaged. Retry the run from its beginning.`, { file })
}
