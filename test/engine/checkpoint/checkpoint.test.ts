import { mkdir, rename, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Dtype, dtypes, elementBytes } from '#engine/checkpoint/dtypes.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { layOut, makeValidModel, toSafetensors, writeModelFiles } from './valid-model.ts'

const place = scratchFolder('checkpoint')

async function writeTensors(name: string, tensors: { name: string; dtype: Dtype; shape: number[]; bytes: Uint8Array }[]): Promise<string> {
  const folder = join(place, name)
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{"model_type": "llama"}')
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    tensors.map((tensor) => ({ ...tensor, bytes: () => tensor.bytes })),
    { format: 'pt' },
  )
  return folder
}

describe('a folder of safetensors', () => {
  it('gives back what the writer wrote, in every dtype, with odd and empty shapes', async () => {
    const tensors = dtypes.flatMap((dtype) =>
      [[3, 5], [7], [], [0, 4], [1, 2, 3]].map((shape, i) => {
        const count = shape.reduce((a, b) => a * b, 1) * elementBytes(dtype)
        return { name: `${dtype}.${i}`, dtype, shape, bytes: Uint8Array.from({ length: count }, (_, j) => (j * 37 + i) % 256) }
      }),
    )
    const checkpoint = await openCheckpoint(await writeTensors('all', tensors))
    expect(checkpoint.config).toEqual({ model_type: 'llama' })
    expect(checkpoint.tensors.size).toBe(tensors.length)
    for (const { name, dtype, shape, bytes } of tensors) {
      expect(checkpoint.tensors.get(name)).toMatchObject({ name, dtype, shape, bytes: bytes.length })
      expect(Buffer.compare(await checkpoint.read(name), bytes)).toBe(0)
    }
    await checkpoint.close()
  })

  it('gives any rows of a tensor, and only those', async () => {
    const values = Float32Array.from({ length: 6 * 10_000 }, (_, i) => i)
    const folder = await writeTensors('rows', [{ name: 'w', dtype: 'F32', shape: [6, 100, 100], bytes: new Uint8Array(values.buffer) }])
    const checkpoint = await openCheckpoint(folder)
    expect(await checkpoint.readFloat32('w', { first: 200, count: 300 })).toEqual(values.slice(20_000, 50_000))
    expect(await checkpoint.readFloat32('w', { first: 600, count: 0 })).toEqual(new Float32Array(0))
    for (const rows of [
      { first: 598, count: 3 },
      { first: -1, count: 2 },
      { first: 0.5, count: 1 },
    ]) {
      await expect(checkpoint.read('w', rows)).rejects.toThrow(/tensor w were requested, but it has 600/)
    }
    await expect(checkpoint.read('v')).rejects.toThrow(/no tensor v/)
    await checkpoint.close()
  })

  it('reads a large tensor by rows without reading the rest', async () => {
    const rows = 4096
    const folder = join(place, 'large')
    await mkdir(folder)
    await writeFile(join(folder, 'config.json'), '{}')
    const bytes = rows * 65_536 * 4
    const file = join(folder, 'model.safetensors')
    const start = toSafetensors(
      { w: { dtype: 'F32', shape: [rows, 65_536], data_offsets: [0, bytes] } },
      new Uint8Array(Float32Array.of(7).buffer),
    )
    await writeFile(file, start)
    await truncate(file, start.length - 4 + bytes)
    const checkpoint = await openCheckpoint(folder)
    const before = process.memoryUsage().rss
    expect((await checkpoint.readFloat32('w', { first: 0, count: 1 }))[0]).toBe(7)
    expect((await checkpoint.read('w', { first: rows - 2, count: 2 })).length).toBe(2 * 65_536 * 4)
    expect(process.memoryUsage().rss - before).toBeLessThan(100_000_000)
    await checkpoint.close()
  })

  it('notices a file that shrinks while it is open', async () => {
    const folder = await writeTensors('shrinks', [{ name: 'w', dtype: 'U8', shape: [100], bytes: new Uint8Array(100) }])
    const checkpoint = await openCheckpoint(folder)
    await truncate(join(folder, 'model.safetensors'), 100)
    await expect(checkpoint.read('w')).rejects.toThrow(/cut off/)
    await checkpoint.close()
  })

  it('is refused without a model, with a sentence', async () => {
    await expect(openCheckpoint(join(place, 'nothing'))).rejects.toThrow(/nothing does not exist\. Give a folder/)
    await writeFile(join(place, 'file.bin'), 'abc')
    await expect(openCheckpoint(join(place, 'file.bin'))).rejects.toThrow(/neither a model folder nor a gguf file/)
  })
})

describe('a folder of shards', () => {
  async function writeShards(folder: string): Promise<string[]> {
    const { config, tensors } = makeValidModel()
    const names = Object.keys(tensors)
    const map = Object.fromEntries(names.map((name, i) => [name, `model-0000${1 + (i % 3)}-of-00003.safetensors`]))
    await mkdir(folder, { recursive: true })
    for (const shard of new Set(Object.values(map))) {
      const { header, data } = layOut(Object.fromEntries(Object.entries(tensors).filter(([name]) => map[name] === shard)))
      await writeFile(join(folder, shard), toSafetensors(header, data))
    }
    await writeFile(join(folder, 'config.json'), JSON.stringify(config))
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }))
    return names
  }

  it('gives the same tensors as one file', async () => {
    const names = await writeShards(join(place, 'shards'))
    await writeModelFiles(join(place, 'whole'), makeValidModel())
    const [shards, whole] = [await openCheckpoint(join(place, 'shards')), await openCheckpoint(join(place, 'whole'))]
    expect([...shards.tensors.keys()].sort()).toEqual([...names].sort())
    for (const name of names) expect(await shards.read(name)).toEqual(await whole.read(name))
    await Promise.all([shards.close(), whole.close()])
  })

  it('opens in the layout of the Hugging Face cache, whose files are links into a folder beside', async () => {
    const blobs = join(place, 'models--a--b', 'blobs')
    const snapshot = join(place, 'models--a--b', 'snapshots', 'abc')
    await writeModelFiles(blobs, makeValidModel())
    await mkdir(snapshot, { recursive: true })
    for (const [name, blob] of [
      ['config.json', '11'],
      ['model.safetensors', '22'],
    ] as const) {
      await rename(join(blobs, name), join(blobs, blob))
      await symlink(join('..', '..', 'blobs', blob), join(snapshot, name))
    }
    const checkpoint = await openCheckpoint(snapshot)
    expect(checkpoint.tensors.size).toBeGreaterThan(10)
    await checkpoint.close()
  })
})
