import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { blockTypes, decodeBlocks } from '#engine/checkpoint/gguf/blocks.ts'
import { type EncodedTypeName, encodedTypes, encodeValues } from '#engine/checkpoint/gguf/encode-blocks.ts'
import { writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import { askPython, type Tools } from './environment.ts'
import type { Table } from './table.ts'

const shape = [16, 512]

/** Blocks of every type that is written mean the same to Python's gguf package as to this program. */
export async function checkBlocks(tools: Tools, folder: string, table: Table): Promise<void> {
  table.title("Blocks, read by Python's gguf package (largest difference)")
  const values = Float32Array.from({ length: 16 * 512 }, (_, i) => Math.sin(i * 12.9898) ** 3 * (i % 113 === 0 ? 4 : 1))
  const names = (Object.keys(encodedTypes) as EncodedTypeName[]).sort()
  const file = join(folder, 'blocks.gguf')
  const tensors = names.map((type) => ({ name: type, type, shape, bytes: async () => encodeValues(values, type) }))
  await writeGguf(file, new Map([['general.architecture', { kind: 'text', value: 'none' }]]), tensors)
  const place = join(folder, 'blocks.f32')
  const read = await askPython<[string, string][]>(tools, 'gguf_blocks.py', [], { file, values: place }, folder)
  const bytes = await readFile(place)
  const theirs = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  for (const [index, [name, type]] of read.entries()) {
    const own = blockTypes[encodedTypes[name as EncodedTypeName].number]
    if (!own || type !== name) {
      table.state(name, `is read as ${type}`)
      continue
    }
    const ours = decodeBlocks(encodeValues(values, name as EncodedTypeName), own)
    const part = theirs.subarray(index * values.length, (index + 1) * values.length)
    table.add(name, Math.max(...ours.map((value, i) => Math.abs(value - (part[i] as number)))), 1e-6)
  }
}
