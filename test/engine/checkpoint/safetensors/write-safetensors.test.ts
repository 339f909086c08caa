import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type TensorToWrite, writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const place = scratchFolder('write-safetensors')

function tensor(name: string, dtype: TensorToWrite['dtype'], shape: number[], bytes: number): TensorToWrite {
  return { name, dtype, shape, bytes: () => new Uint8Array(bytes).fill(name.length) }
}

describe('writeSafetensors', () => {
  it('aligns the header to 8 bytes and every tensor to its element size', async () => {
    const file = join(place, 'aligned.safetensors')
    await writeSafetensors(file, [
      tensor('a', 'U8', [3], 3),
      tensor('b', 'BF16', [5], 10),
      tensor('c', 'F64', [1], 8),
      tensor('d', 'F32', [1], 4),
    ])
    const bytes = await readFile(file)
    const length = Number(bytes.readBigUInt64LE(0))
    expect(length % 8).toBe(0)
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<string, { data_offsets: [number, number] }>
    expect(Object.fromEntries(Object.entries(header).map(([name, entry]) => [name, entry.data_offsets]))).toEqual({
      c: [0, 8],
      d: [8, 12],
      b: [12, 22],
      a: [22, 25],
    })
  })

  it('asks for one tensor at a time', async () => {
    let open = 0
    const slow = (name: string): TensorToWrite => ({
      name,
      dtype: 'U8',
      shape: [1],
      bytes: async () => {
        expect(++open).toBe(1)
        await new Promise((resolve) => setTimeout(resolve, 5))
        open--
        return new Uint8Array(1)
      },
    })
    await writeSafetensors(join(place, 'slow.safetensors'), [slow('a'), slow('b'), slow('c')])
  })

  it('leaves no file when a tensor fails or has the wrong size', async () => {
    const wrong = tensor('a', 'F32', [2], 7)
    await expect(writeSafetensors(join(place, 'wrong.safetensors'), [wrong])).rejects.toThrow(/takes 8 bytes, but has 7/)
    const failing: TensorToWrite = { ...tensor('b', 'U8', [1], 1), bytes: () => Promise.reject(new Error('lost')) }
    await expect(writeSafetensors(join(place, 'failing.safetensors'), [failing])).rejects.toThrow('lost')
    await expect(writeSafetensors(join(place, 'twice.safetensors'), [wrong, wrong])).rejects.toThrow(/Two tensors are named a/)
    expect((await readdir(place)).filter((name) => /wrong|failing|twice/.test(name))).toEqual([])
  })
})
