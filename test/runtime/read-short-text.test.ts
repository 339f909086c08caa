import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readShortText } from '#runtime/read-short-text.ts'

const folder = mkdtempSync(join(tmpdir(), 'espalier-short-text-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('reads a file of exactly the most bytes, and refuses one byte more', async () => {
  const file = join(folder, 'prompts.txt')
  writeFileSync(file, 'abcd')
  expect(await readShortText(file, '--prompts', 4)).toBe('abcd')
  await expect(readShortText(file, '--prompts', 3)).rejects.toThrow(`--prompts is "${file}"`)
})

test('refuses what never ends or does not exist, at once', async () => {
  const pipe = join(folder, 'pipe')
  if (process.platform !== 'win32') {
    execFileSync('mkfifo', [pipe])
    await expect(readShortText(pipe, '--lines')).rejects.toThrow('not a regular file')
    await expect(readShortText('/dev/zero', '--lines')).rejects.toThrow('not a regular file')
  }
  await expect(readShortText(join(folder, 'none'), '--lines')).rejects.toThrow('does not exist')
})
