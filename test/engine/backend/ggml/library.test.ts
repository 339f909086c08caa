import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { findGgml } from '#runtime/ggml.mjs'

let cache: string
let folder: string
beforeEach(() => {
  const installed = findGgml()
  if (!installed) throw new Error('Setup has not installed ggml: run npm test, not vitest.')
  cache = mkdtempSync(join(tmpdir(), 'espalier-library-'))
  folder = join(cache, 'runtime', basename(installed))
  cpSync(installed, folder, { recursive: true })
  vi.stubEnv('ESPALIER_CACHE', cache)
  vi.resetModules()
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetModules()
  rmSync(cache, { recursive: true, force: true })
})

const open = async () => (await import('#engine/backend/ggml/library.ts')).openLibrary('llama.cpp')

test('the libraries that setup installed open', async () => {
  const library = await open()
  expect(library.func('size_t llama_max_devices()')()).toBeGreaterThan(0)
})

test('a changed library is not loaded', async () => {
  const base = join(folder, readdirSync(folder).find((name) => name.includes('ggml-base')) ?? '')
  const bytes = readFileSync(base)
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1
  writeFileSync(base, bytes)
  await expect(open()).rejects.toThrow(/ggml-base is not the file that setup installed\. Delete this folder and run/)
})

test('a library of another version is not used', async () => {
  vi.doMock('#runtime/ggml.mjs', async (original) => ({ ...(await original<object>()), ggmlVersion: '9.9.9' }))
  await expect(open()).rejects.toThrow(/has version \d+\.\d+\.\d+ and Espalier needs 9\.9\.9/)
  vi.doUnmock('#runtime/ggml.mjs')
})

test('a missing library says how to install it', async () => {
  rmSync(folder, { recursive: true })
  await expect(open()).rejects.toThrow(/is not installed\. Run `npm start` or `npm run demo` once/)
})
