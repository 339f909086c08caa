import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { ensureBundle } from '../../src-main/setup/screens.mjs'

test('what the page itself loads on a first visit weighs less than 300 kB, compressed', async () => {
  await ensureBundle(execPath, 'screens')
  const folder = join(import.meta.dirname, '../../out/renderer')
  const page = await readFile(join(folder, 'index.html'), 'utf8')
  const linked = [...page.matchAll(/(?:src|href)="\.?\/?(assets\/[^"]+)"/g)].map(([, name]) => name as string)
  expect(linked.filter((name) => name.endsWith('.js'))).not.toEqual([])
  const sizes = await Promise.all(['index.html', ...linked].map(async (name) => gzipSync(await readFile(join(folder, name))).length))
  const kilobytes = sizes.reduce((sum, size) => sum + size, 0) / 1000
  expect(kilobytes).toBeGreaterThan(50)
  expect(kilobytes).toBeLessThan(300)
})
