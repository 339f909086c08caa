import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { resourcesNear } from '#services/sample-model.ts'
import settings, { computePackages } from '../../electron-builder.config.mjs'

const root = join(import.meta.dirname, '../..')

test('the fuses close what makes Electron a general Node, and code comes from the checked archive only', () => {
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

test('addons lie outside of the archive and nothing is compiled while packaging', () => {
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
  expect(packages).toContain('@tensorflow/tfjs-core')
  expect(packages).not.toContain('better-sqlite3')
  expect(packages).not.toContain('electron')
  for (const name of packages) expect(existsSync(join(root, 'node_modules', name)), name).toBe(true)
})

test('a packaged window finds what comes with Espalier where packaging copies it: beside the archive', () => {
  expect(resourcesNear(join('/opt/espalier/resources/app.asar', 'out', 'main'))).toBe(resolve('/opt/espalier/resources/compute/resources'))
  expect(resourcesNear(join('/home/app.asar-user', 'src-main', 'services'))).toBe(resolve('/home/app.asar-user/resources'))
})

test('a process that computes with TensorFlow loads only packages that are shipped, and none of the install script’s', () => {
  const code = `
    import { createRequire } from 'node:module'
    const { openBackend } = await import(${JSON.stringify(join(root, 'src-main/engine/backend/backend.ts'))})
    const { name } = await openBackend('auto')
    const paths = Object.keys(createRequire(import.meta.url)('node:module')._cache)
    const names = paths.map((path) => /.*node_modules[\\\\/]((?:@[^\\\\/]+[\\\\/])?[^\\\\/]+)/.exec(path)?.[1]).filter(Boolean)
    console.log(JSON.stringify({ name, names: [...new Set(names)] }))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', cwd: root })
  const { name, names } = JSON.parse(stdout.split('\n').findLast((line) => line.startsWith('{')) ?? '{}')
  const packages = computePackages()
  expect(names.filter((one: string) => !packages.includes(one))).toEqual([])
  for (const old of ['tar', 'node-fetch', '@mapbox/node-pre-gyp', 'adm-zip', 'rimraf']) expect(packages).not.toContain(old)
  if (name.startsWith('tensorflow')) expect(names).toContain('@tensorflow/tfjs-node-gpu')
})
