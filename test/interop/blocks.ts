import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { quantisedTypes } from '#engine/backend/ggml/quantised-types.ts'
import { blockTypeNamed, decodeBlocks, encodeRows } from '#engine/checkpoint/gguf/value-blocks.ts'
import { writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import { askPython, type Tools } from './environment.ts'
import type { Table } from './table.ts'

const shape = [16, 512] as const
/** Types that the Python package does not know. */
const unread = new Set(['NVFP4', 'Q1_0', 'Q2_0'])

/** Checks that blocks of every type we write have the same values in Python's gguf package. */
export async function checkBlocks(tools: Tools, folder: string, table: Table): Promise<void> {
  table.title("Blocks, read by Python's gguf package (largest difference)")
  const values = Float32Array.from({ length: 16 * 512 }, (_, i) => Math.sin(i * 12.9898) ** 3 * (i % 113 === 0 ? 4 : 1))
  const importances = new Float32Array(shape[1]).fill(1)
  const names = ['F32', 'F16', 'BF16', ...quantisedTypes().map(({ name }) => name)].filter((name) => !unread.has(name)).sort()
  const encode = (name: string) => encodeRows(values, blockTypeNamed(name), shape[1], importances)
  const file = join(folder, 'blocks.gguf')
  const tensors = names.map((name) => ({ name, type: blockTypeNamed(name), shape, bytes: () => encode(name) }))
  await writeGguf(file, new Map([['general.architecture', { kind: 'text', value: 'none' }]]), tensors)
  const place = join(folder, 'blocks.f32')
  const read = await askPython<[string, string][]>(tools, 'gguf_blocks.py', [], { file, values: place }, folder)
  const bytes = await readFile(place)
  const theirs = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  for (const [index, [name, type]] of read.entries()) {
    if (type !== name) {
      table.state(name, `is read as ${type}`)
      continue
    }
    const ours = decodeBlocks(await encode(name), blockTypeNamed(name))
    const part = theirs.subarray(index * values.length, (index + 1) * values.length)
    table.add(name, Math.max(...ours.map((value, i) => Math.abs(value - (part[i] as number)))), 1e-6)
  }
}
