import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { extractEntry, listZip, readEntry } from '../../src-main/setup/zip.mjs'
import { makeZip } from './make-zip.ts'
import { scratchFolder } from './scratch.ts'

const text = Buffer.from('a line that packs well\n'.repeat(2000))
const files = [
  { name: 'folder/packed.txt', data: text },
  { name: 'stored.bin', data: Buffer.from([0, 1, 2, 255]), method: 0 as const },
  { name: 'empty', data: Buffer.alloc(0), method: 0 as const },
]

test.each([false, true])('lists and reads packed, stored and empty files; with 64-bit fields: %s', async (wide) => {
  const folder = scratchFolder()
  const path = join(folder, 'a.zip')
  makeZip(path, files, { wide })
  const entries = listZip(path)
  expect(entries.map(({ name, size }) => [name, size])).toEqual(files.map(({ name, data }) => [name, data.length]))
  for (const [index, entry] of entries.entries()) expect(readEntry(path, entry)).toEqual(files[index]?.data)
  const [packed] = entries
  if (!packed) throw new Error('no entry')
  const target = join(folder, 'out', 'packed.txt')
  let counted = 0
  const written = await extractEntry(path, packed, target, (bytes) => {
    counted += bytes
  })
  expect(readFileSync(target)).toEqual(text)
  expect(written).toEqual({ size: text.length, sha256: createHash('sha256').update(text).digest('hex') })
  expect(counted).toBe(text.length)
})

test('an archive with a comment behind it is still read', () => {
  const path = join(scratchFolder(), 'a.zip')
  const bytes = makeZip(path, files)
  const comment = Buffer.from('a comment')
  bytes.writeUInt16LE(comment.length, bytes.length - 2)
  writeFileSync(path, Buffer.concat([bytes, comment]))
  expect(listZip(path)).toHaveLength(3)
})

test('an archive cut off anywhere is refused, never read in part', () => {
  const path = join(scratchFolder(), 'a.zip')
  const bytes = makeZip(path, files)
  for (let length = 0; length < bytes.length; length += 7) {
    writeFileSync(path, bytes.subarray(0, length))
    expect(() => listZip(path), `${length} bytes`).toThrow('is not a whole zip archive')
  }
})

test('a hole in the middle is found when the file is taken out', async () => {
  const folder = scratchFolder()
  const path = join(folder, 'a.zip')
  const bytes = makeZip(path, files)
  const [packed] = listZip(path)
  if (!packed) throw new Error('no entry')
  bytes.fill(0, 60, 120)
  writeFileSync(path, bytes)
  await expect(extractEntry(path, packed, join(folder, 'out'))).rejects.toThrow()
  expect(() => readEntry(path, packed)).toThrow()
})

test.each(['../outside', '/etc/passwd', 'a/../../b', 'a\\b'])('the name %s is refused', (name) => {
  const path = join(scratchFolder(), 'a.zip')
  makeZip(path, [{ name, data: text }])
  expect(() => listZip(path)).toThrow('outside itself')
})

test('a packing that is not known is named', async () => {
  const folder = scratchFolder()
  const path = join(folder, 'a.zip')
  makeZip(path, [{ name: 'a', data: text, method: 12 }])
  const [entry] = listZip(path)
  if (!entry) throw new Error('no entry')
  await expect(extractEntry(path, entry, join(folder, 'out'))).rejects.toThrow('by method 12')
})
