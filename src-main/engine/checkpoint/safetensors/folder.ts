import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { byteRange, type Checkpoint, type Rows, type TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import { toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type Decimals, describe, findDecimals, findDuplicateKey, isObject, parseObject } from '#engine/checkpoint/json.ts'
import { exists, readBytes, readText } from '#engine/checkpoint/regular-file.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import type { StoredTensor } from './safetensors-header.ts'
import { openSafetensors, type SafetensorsFile } from './safetensors-header.ts'

/** Where one tensor is stored: the open file, and its header entry with the offset. */
interface Place {
  source: SafetensorsFile
  stored: StoredTensor
}

/** Opens a folder of safetensors. */
export async function openFolder(folder: string): Promise<Checkpoint> {
  const { config, decimals } = await readConfig(folder)
  const files: SafetensorsFile[] = []
  try {
    const places = await findTensors(folder, files)
    const sizes = await Promise.all(files.map(async ({ handle }) => (await handle.stat()).size))
    return new FolderCheckpoint(
      folder,
      { config, decimals, ...(sizes.length > 1 ? { shardBytes: Math.max(...sizes) } : {}) },
      files,
      places,
    )
  } catch (error) {
    await closeAll(files)
    throw error
  }
}

async function readConfig(folder: string): Promise<{ config: Record<string, unknown>; decimals: Decimals }> {
  const file = await resolveInside(folder, 'config.json')
  if (!(await exists(file))) {
    throw new EspalierError('not-found', `${folder} has no config.json. Give a model's folder with all files that its publisher provides.`)
  }
  const text = await readText(file)
  return { config: parseObject(text, file), decimals: findDecimals(text) }
}

async function findTensors(folder: string, files: SafetensorsFile[]): Promise<Map<string, Place>> {
  if (await exists(join(folder, singleFile))) return openShard(folder, singleFile, files)
  if (!(await exists(join(folder, indexFile)))) throw await missingWeights(folder)
  return openShards(folder, files)
}

async function openShard(folder: string, name: string, files: SafetensorsFile[]): Promise<Map<string, Place>> {
  const source = await openSafetensors(await resolveInside(folder, name))
  files.push(source)
  return new Map([...source.tensors].map(([tensor, stored]) => [tensor, { source, stored }]))
}

async function openShards(folder: string, files: SafetensorsFile[]): Promise<Map<string, Place>> {
  const index = await readIndex(folder)
  const shards = new Map<string, Map<string, Place>>()
  for (const shard of new Set(index.values())) {
    if (!(await exists(join(folder, shard)))) {
      throw new EspalierError('not-found', `${folder} lacks ${shard}, which ${indexFile} names. Download the missing file.`, {
        file: shard,
      })
    }
    shards.set(shard, await openShard(folder, shard, files))
  }
  const tensors = new Map<string, Place>()
  for (const [name, shard] of index) {
    const place = shards.get(shard)?.get(name)
    if (!place)
      throw new EspalierError('invalid', `${join(folder, shard)} lacks tensor ${name}, which ${indexFile} places there.`, { file: shard })
    tensors.set(name, place)
  }
  return tensors
}

async function missingWeights(folder: string): Promise<EspalierError> {
  const others = (await readdir(folder)).filter((name) => /\.(bin|pt|pth|ckpt|h5|msgpack|onnx|gguf|safetensors)$/.test(name)).slice(0, 3)
  const hint = others.length > 0 ? ` It has ${others.join(', ')}, which Espalier cannot read from a folder.` : ''
  return new EspalierError('not-found', `${folder} has neither ${singleFile} nor ${indexFile}.${hint} Give a folder of safetensors.`)
}

class FolderCheckpoint implements Checkpoint {
  readonly path: string
  readonly config: Record<string, unknown>
  readonly decimals: Decimals
  readonly shardBytes?: number
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly #files: SafetensorsFile[]
  readonly #places: Map<string, Place>

  constructor(
    path: string,
    about: Pick<Checkpoint, 'config' | 'decimals' | 'shardBytes'>,
    files: SafetensorsFile[],
    places: Map<string, Place>,
  ) {
    this.path = path
    this.config = about.config
    this.decimals = about.decimals
    if (about.shardBytes !== undefined) this.shardBytes = about.shardBytes
    this.#files = files
    this.#places = places
    this.tensors = new Map([...places].map(([name, { stored }]) => [name, stored]))
  }

  async read(name: string, rows?: Rows): Promise<Uint8Array> {
    const { source, stored } = this.#place(name)
    const { skip, bytes } = byteRange(stored, rows)
    return readBytes(source.handle, stored.begin + skip, bytes, source.file)
  }

  async readFloat32(name: string, rows?: Rows): Promise<Float32Array> {
    return toFloat32(await this.read(name, rows), this.#place(name).stored.dtype)
  }

  close(): Promise<void> {
    return closeAll(this.#files)
  }

  #place(name: string): Place {
    const place = this.#places.get(name)
    if (!place)
      throw new EspalierError('invalid', `${this.path} has no tensor ${name}. It has ${this.tensors.size} others.`, { tensor: name })
    return place
  }
}

async function closeAll(files: SafetensorsFile[]): Promise<void> {
  await Promise.all(files.splice(0).map(({ handle }) => handle.close()))
}

export const singleFile = 'model.safetensors'
export const indexFile = 'model.safetensors.index.json'

/** Reads a folder's shard index: tensor name to file name. Checks that file names stay inside the folder, not that the shards exist. */
export async function readIndex(folder: string): Promise<Map<string, string>> {
  const file = await resolveInside(folder, indexFile)
  const text = await readText(file)
  const { weight_map: map } = parseObject(text, file)
  if (!isObject(map)) throw new EspalierError('invalid', `${file} must have an object "weight_map", but has ${describe(map)}.`, { file })
  const duplicate = findDuplicateKey(text)
  if (duplicate !== undefined) throw new EspalierError('invalid', `${file} has the key ${describe(duplicate)} twice.`, { file })
  const index = new Map<string, string>()
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string')
      throw new EspalierError('invalid', `${file} places tensor ${name} in ${describe(shard)}, which is not a file name.`, { file })
    index.set(name, shard)
  }
  for (const shard of new Set(index.values())) await resolveInside(folder, shard)
  return index
}
