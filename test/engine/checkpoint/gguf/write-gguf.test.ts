import { statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
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

// Gemma has both of these tokens. Without its mark, one is the other, and llama.cpp ends at a file that has a token twice.
it('keeps the byte order mark at the beginning of a text', async () => {
  const path = join(folder, 'marked')
  const texts = ['\uFEFF//', '//']
  await writeGguf(path, new Map([['tokens', { kind: 'texts', value: texts }]]), [])
  const file = await open(path)
  const { metadata } = await readHeader(file, path)
  await file.close()
  expect(metadata.get('tokens')).toEqual(texts)
})
