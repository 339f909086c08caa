import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { entriesBytes, ggufBytes, type MetadataValue, writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const folder = scratchFolder('entries')

const values: Record<MetadataValue['kind'], MetadataValue> = {
  text: { kind: 'text', value: 'größer' },
  integer: { kind: 'integer', value: 7 },
  signed: { kind: 'signed', value: -7 },
  short: { kind: 'short', value: 7 },
  float: { kind: 'float', value: 0.5 },
  flag: { kind: 'flag', value: true },
  texts: { kind: 'texts', value: ['', 'größer'] },
  integers: { kind: 'integers', value: [1, 2, 3] },
  floats: { kind: 'floats', value: [0.5] },
  flags: { kind: 'flags', value: [true, false, true] },
}

it.each(Object.values(values))('counts the bytes of $kind as they are written', async (value) => {
  // So many that a miscount cannot hide in the padding at the end.
  const metadata = new Map(Array.from({ length: 40 }, (_, entry) => [`key.${entry}`, value]))
  await writeGguf(join(folder, value.kind), metadata, [])
  expect(statSync(join(folder, value.kind)).size).toBe(ggufBytes(entriesBytes(metadata), []))
})
