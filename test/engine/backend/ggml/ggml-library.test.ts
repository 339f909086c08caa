import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { findGgml } from '#runtime/ggml.mjs'
import { findCompiler } from '../../../../src-main/setup/tensorflow/compiler.mjs'
import { scratchOfTest } from '../../../fixtures/scratch.ts'

let cache: string
let folder: string
beforeEach(() => {
  const installed = findGgml()
  if (!installed) throw new Error('Setup has not installed ggml: run npm test, not vitest.')
  cache = scratchOfTest('library')
  folder = join(cache, 'runtime', basename(installed))
  cpSync(installed, folder, { recursive: true })
  vi.stubEnv('ESPALIER_CACHE', cache)
  vi.resetModules()
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetModules()
})

const open = async () => (await import('#engine/backend/ggml/ggml-library.ts')).openLibrary('llama.cpp')

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

/** The devices that a process with this cache lists, or its error. */
function devices(environment: Record<string, string> = {}): string {
  const script = join(import.meta.dirname, 'list-devices.ts')
  const env = { ...process.env, ESPALIER_CACHE: cache, ...environment }
  return execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', script], { env, cwd: cache, encoding: 'utf8' })
}

test('the library for this processor is among the devices', () => {
  expect(devices()).toContain('CPU')
})

test.each(['libggml-cpu-zen9.so', 'libstdc++.so.6', 'libggml-rpc.so'])(
  'with a library that setup did not list, none is loaded: %s',
  async (name) => {
    writeFileSync(join(folder, name), 'not a library')
    expect(devices()).toMatch(new RegExp(`${name.replace(/[.+]/g, '\\$&')} is not a file that setup installed\\. Delete this folder`))
  },
)

test('a changed library for some processor is not loaded', () => {
  const name = readdirSync(folder).find((one) => one.includes('ggml-cpu')) ?? ''
  const bytes = readFileSync(join(folder, name))
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1
  writeFileSync(join(folder, name), bytes)
  expect(devices()).toContain(`its library ${name} is not the file that setup installed`)
})

test('a shortened library is not loaded', async () => {
  const name = readdirSync(folder).find((one) => one.includes('llama')) ?? ''
  writeFileSync(join(folder, name), readFileSync(join(folder, name)).subarray(0, 1000))
  await expect(open()).rejects.toThrow('is not the file that setup installed')
})

const compiler = findCompiler()

test.skipIf(!compiler)('what GGML_BACKEND_PATH names is not loaded', () => {
  const marker = join(cache, 'loaded')
  const source = join(cache, 'evil.c')
  writeFileSync(source, `#include <stdio.h>\n__attribute__((constructor)) void begin(void) { fclose(fopen("${marker}", "w")); }\n`)
  execFileSync(compiler as string, ['-shared', '-fPIC', '-o', join(cache, 'evil.so'), source])
  expect(devices({ GGML_BACKEND_PATH: join(cache, 'evil.so') })).toContain('CPU')
  expect(existsSync(marker)).toBe(false)
})
