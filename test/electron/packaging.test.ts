import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve, sep } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { ggmlFolder } from '#runtime/ggml.mjs'
import { resourcesNear } from '#runtime/resources.ts'
import settings, { computePackages, copyGgml } from '../../electron-builder.config.mjs'

const root = join(import.meta.dirname, '../..')

test('the fuses disable what makes Electron a general Node, and code comes only from the checked archive', () => {
  expect(settings.electronFuses).toMatchObject({
    runAsNode: false,
    enableNodeOptionsEnvironmentVariable: false,
    enableNodeCliInspectArguments: false,
    enableEmbeddedAsarIntegrityValidation: true,
    onlyLoadAppFromAsar: true,
    grantFileProtocolExtraPrivileges: false,
  })
  expect(settings.asar).toBe(true)
})

test('addons are outside the archive, and packaging compiles nothing', () => {
  expect(settings.npmRebuild).toBe(false)
  expect(settings.asarUnpack).toContain('**/*.node')
})

test('each system has a target and its own Node for the compute process', () => {
  for (const system of [settings.linux, settings.mac, settings.win]) {
    expect(system.target.length).toBeGreaterThan(0)
    expect(system.extraResources.map(({ to }) => to)[0]).toMatch(/^node\/node(\.exe)?$/)
  }
})

test('every package of the compute process is installed, and the main side’s are not among them', () => {
  const packages = computePackages()
  expect(packages).toContain('node_modules/@tensorflow/tfjs-core')
  expect(packages).not.toContain('node_modules/better-sqlite3')
  expect(packages).not.toContain('node_modules/electron')
  for (const place of packages) expect(existsSync(join(root, place)), place).toBe(true)
})

test('ggml is shipped with its library for Vulkan', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-packaging-'))
  vi.stubEnv('ESPALIER_CACHE', folder)
  vi.stubEnv('ESPALIER_VULKAN', '1')
  onTestFinished(() => {
    vi.unstubAllEnvs()
    rmSync(folder, { recursive: true })
  })
  const places = [ggmlFolder('ggml'), ggmlFolder('ggml-vulkan')]
  for (const place of places) {
    mkdirSync(place, { recursive: true })
    writeFileSync(join(place, 'runtime.json'), '{}')
  }
  await copyGgml(join(folder, 'compute'))
  expect(readdirSync(join(folder, 'compute')).sort()).toEqual(places.map((place) => basename(place)))
})

test('a packaged window finds what comes with Espalier where packaging copies it: beside the archive', () => {
  expect(resourcesNear(join('/opt/espalier/resources/app.asar', 'out', 'main'))).toBe(resolve('/opt/espalier/resources/compute/resources'))
  expect(resourcesNear(join('/home/app.asar-user', 'src-main', 'runtime'))).toBe(resolve('/home/app.asar-user/resources'))
})

test('a process that computes with TensorFlow loads only packages that are shipped', () => {
  const code = `
    import { createRequire } from 'node:module'
    const { openBackend } = await import(${JSON.stringify(join(root, 'src-main/engine/backend/backend.ts'))})
    const { name } = await openBackend('auto')
    const paths = Object.keys(createRequire(import.meta.url)('node:module')._cache)
    console.log(JSON.stringify({ name, paths }))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', cwd: root })
  const { name, paths } = JSON.parse(stdout.split('\n').findLast((line) => line.startsWith('{')) ?? '{}') as {
    name: string
    paths: string[]
  }
  const real = computePackages().map((place) => realpathSync(join(root, place)) + sep)
  expect(paths.length).toBeGreaterThan(0)
  expect(paths.filter((path) => !real.some((place) => path.startsWith(place)))).toEqual([])
  if (name.startsWith('tensorflow')) expect(paths.some((path) => path.includes('tfjs-node-gpu'))).toBe(true)
})
