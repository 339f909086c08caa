import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readFlagFile } from '#cli/commands/read-flags.ts'
import { readSmallFile } from '#runtime/small-file.ts'
import { scratchFolder } from '../fixtures/scratch.ts'

const folder = scratchFolder('small-file')

test('reads an empty file and one of exactly the most bytes, and refuses one byte more', async () => {
  const [file, empty] = [join(folder, 'prompts.txt'), join(folder, 'empty.txt')]
  writeFileSync(file, 'abcd')
  writeFileSync(empty, '')
  expect(await readSmallFile(empty)).toBe('')
  expect(await readSmallFile(file, 4)).toBe('abcd')
  await expect(readSmallFile(file, 3)).rejects.toThrow('has 4 bytes; at most 3 are allowed')
})

test('refuses what never ends or does not exist, at once', async () => {
  const pipe = join(folder, 'pipe')
  if (process.platform !== 'win32') {
    execFileSync('mkfifo', [pipe])
    await expect(readSmallFile(pipe)).rejects.toThrow('not a regular file')
    await expect(readSmallFile('/dev/zero')).rejects.toThrow('not a regular file')
  }
  await expect(readFlagFile(join(folder, 'none'), '--lines')).rejects.toThrow(`--lines: ${join(folder, 'none')} does not exist`)
})
