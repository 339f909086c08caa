import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { ensureBundle } from '../../src-main/setup/screens.mjs'

test('everything that a first visit fetches weighs less than 400 kB, compressed', async () => {
  await ensureBundle(execPath, 'screens')
  const folder = join(import.meta.dirname, '../../out/renderer')
  const names = (await readdir(folder, { recursive: true })).filter((name) => /\.(js|css|html|woff2?)$/.test(name))
  const sizes = await Promise.all(names.map(async (name) => gzipSync(await readFile(join(folder, name))).length))
  const kilobytes = sizes.reduce((sum, size) => sum + size, 0) / 1000
  expect(kilobytes).toBeGreaterThan(50)
  expect(kilobytes).toBeLessThan(400)
})
