import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ggmlFolder, ggmlRelease } from '../../src-main/runtime/ggml.mjs'
import { ensureGgml, ggmlPackages, wantsVulkan } from '../../src-main/setup/ggml.mjs'
import { findDrivers } from '../../src-main/setup/simulated-gpu.mjs'
import { scratchOfTest } from '../fixtures/scratch.ts'

let cache: string
let said: string
beforeEach(() => {
  cache = scratchOfTest('ggml')
  said = ''
  vi.stubEnv('ESPALIER_CACHE', cache)
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said += String(text)
    return true
  })
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const system = `${process.platform}-${process.arch}`
const own = ggmlPackages[system]

describe.skipIf(!own)('ggml', () => {
  test('is installed once, with its libraries alone, and again when a file is damaged', async () => {
    await ensureGgml()
    const names = readdirSync(ggmlFolder())
    expect(names.some((name) => /ggml-base/.test(name))).toBe(true)
    expect(names.filter((name) => /\.node$|llama-common/.test(name))).toEqual([])
    expect(readdirSync(join(cache, 'runtime')).filter((name) => name.startsWith('.'))).toEqual([])
    said = ''
    await ensureGgml()
    expect(said).toBe('')
    const base = join(ggmlFolder(), names.find((name) => /ggml-base/.test(name)) ?? '')
    truncateSync(base, 100)
    await ensureGgml()
    expect(readFileSync(base).length).toBeGreaterThan(100_000)
    if (!process.getuid) return
    chmodSync(base, 0o666)
    await ensureGgml()
    expect(said.match(/Installing ggml …/g)).toHaveLength(2)
  })

  test('of another content is refused, and setup continues', async () => {
    await ensureGgml({ [system]: { name: own?.name ?? '', integrity: `sha512-${'A'.repeat(86)}==` } })
    expect(said).toMatch(/could not be installed: npm could not install @node-llama-cpp\/.*EINTEGRITY/s)
    expect(said).toMatch(/there are no quantised GGUF types, and Espalier cannot compute if TensorFlow is missing/)
    expect(existsSync(ggmlFolder())).toBe(false)
  })
})

test('a system without a package is named', async () => {
  await ensureGgml({})
  expect(said).toContain(`no package is known for ${process.platform} ${process.arch}`)
})

test('every package is pinned by a whole hash, in one release', () => {
  for (const { integrity } of Object.values(ggmlPackages)) expect(integrity).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/)
  expect(ggmlRelease).toMatch(/^\d+\.\d+\.\d+$/)
})

test('the library for Vulkan is installed where it is asked for, and nowhere else without a GPU', () => {
  expect(wantsVulkan({ ESPALIER_VULKAN: '1' })).toBe(true)
  expect(wantsVulkan({ ESPALIER_VULKAN: '0' })).toBe(false)
  expect(() => wantsVulkan({ ESPALIER_VULKAN: 'yes' })).toThrow('ESPALIER_VULKAN is "yes"; it must be 1')
})

const [node, loader, windows] = ['dev/dri/renderD128', 'usr/lib64/libvulkan.so.1', 'System32/vulkan-1.dll']
test.each([
  ['Linux with a GPU and a driver', 'linux-x64', [node, loader], true],
  ['a driver in the folder of another Linux', 'linux-x64', [node, 'usr/lib/x86_64-linux-gnu/libvulkan.so.1'], true],
  ['a GPU without a driver', 'linux-x64', [node], false],
  ['a driver without a GPU', 'linux-x64', ['dev/dri/card0', loader], false],
  ['a folder of devices that cannot be listed', 'linux-x64', ['dev/dri', loader], false],
  ['Windows with a driver', 'win32-x64', [windows], true],
  ['Windows without one', 'win32-x64', ['System32/opengl32.dll'], false],
  ['a system without a package', 'linux-arm64', [node, loader, windows], false],
])('setup sees whether the library for Vulkan is of use: %s', (_title, system, files, expected) => {
  for (const file of files) {
    mkdirSync(dirname(join(cache, file)), { recursive: true })
    writeFileSync(join(cache, file), '')
  }
  expect(wantsVulkan({ SystemRoot: cache }, { system, root: cache })).toBe(expected)
})

test.each([
  ['Debian 13', ['lvp_icd.json', 'radeon_icd.json']],
  ['older Debian and Ubuntu', ['lvp_icd.x86_64.json']],
  ['a system without it', []],
])('the simulated GPU is found by the name of its driver on %s', (_title, names) => {
  for (const name of names) writeFileSync(join(cache, name), '')
  const [expected = ''] = names
  expect(findDrivers(cache)).toBe(expected && join(cache, expected))
  expect(findDrivers(join(cache, 'missing'))).toBe('')
})
