import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { basename, dirname, join, posix, resolve } from 'node:path'
import { parseAst } from 'vite'
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { ggmlFolder } from '#runtime/ggml.mjs'
import { resourcesNear } from '#runtime/resources.ts'
import { archiveFiles, computeFiles } from '../../src-main/setup/package/contents.mjs'
import { copyLibraries } from '../../src-main/setup/package/folder.mjs'
import { shippedFuses } from '../../src-main/setup/package/fuses.mjs'
import { ensureBundle } from '../../src-main/setup/screens.mjs'
import { scratchOfTest } from '../fixtures/scratch.ts'

const root = join(import.meta.dirname, '../..')
let archive: string[]
let compute: string[]

beforeAll(async () => {
  await ensureBundle(process.execPath, 'screens')
  await ensureBundle(process.execPath, 'window')
  ;[archive, compute] = await Promise.all([archiveFiles(), computeFiles()])
})

test('the fuses disable what makes Electron a general Node, and code comes only from the checked archive', () => {
  expect(shippedFuses).toMatchObject({
    runAsNode: false,
    enableNodeOptionsEnvironmentVariable: false,
    enableNodeCliInspectArguments: false,
    enableEmbeddedAsarIntegrityValidation: true,
    onlyLoadAppFromAsar: true,
    grantFileProtocolExtraPrivileges: false,
  })
})

/** A node of a parsed program. */
interface Node {
  type: string
  source?: { value?: unknown } | null
  callee?: { name?: string }
  arguments?: { value?: unknown }[]
}

/** Every module that a script imports or requires by a literal name. */
function importsOf(file: string): string[] {
  const found: unknown[] = []
  const visit = (node: unknown): void => {
    if (node === null || typeof node !== 'object') return
    const { type, source, callee, arguments: given } = node as Node
    if (type?.startsWith('Import') || type?.startsWith('Export')) found.push(source?.value)
    if (type === 'CallExpression' && callee?.name === 'require') found.push(given?.[0]?.value)
    for (const value of Object.values(node)) visit(value)
  }
  visit(parseAst(readFileSync(join(root, file), 'utf8')).body)
  return found.filter((name) => typeof name === 'string')
}

/** What the scripts among these files import and none of them is. */
function missingFrom(files: string[]): string[] {
  const known = new Set(files)
  const isThere = (path: string) => ['', '.js', '.cjs', '.json', '/index.js'].some((ending) => known.has(path + ending))
  const isOutside = (name: string) => name === 'electron' || name.startsWith('node:') || builtinModules.includes(name)
  const isPackage = (name: string, from: string) => {
    const place = `node_modules/${/^(?:@[^/]+\/)?[^/]+/.exec(name)?.[0]}/package.json`
    return known.has(place) || known.has(`${/^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(from)?.[0]}/${place}`)
  }
  return files
    .filter((file) => /^out\/main\/.*\.js$|^node_modules\/.*\.[cm]?js$/.test(file))
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => !isOutside(name))
        .filter((name) => (name.startsWith('.') ? !isThere(posix.join(dirname(file), name)) : !isPackage(name, file)))
        .map((name) => `${file} imports ${name}`),
    )
}

/** Packages that another only loads if they are there: koffi has one for each system. */
const optional = / imports (bufferutil|utf-8-validate|node-fetch|encoding|canvas|@koromix\/koffi-[\w-]+)$/

test('all that the built main process imports is in the archive, and nothing of other systems', () => {
  expect(archive).toContain('node_modules/papaparse/papaparse.js')
  expect(missingFrom(archive).filter((one) => !optional.test(one))).toEqual([])
  expect(archive.filter((path) => path.endsWith('.node'))).toEqual([
    `node_modules/better-sqlite3/prebuilds/${process.platform}-${process.arch}.node`,
  ])
  expect(archive.filter((path) => /\.(map|ts|[ch]pp|c)$/.test(path))).toEqual([])
})

test('all that the compute process imports lies beside the archive, without the database and without other entries', () => {
  expect(missingFrom(compute).filter((one) => !optional.test(one))).toEqual([])
  expect(compute.filter((path) => /better-sqlite3|out\/main\/(window|server|cli)\.js/.test(path))).toEqual([])
  expect(compute.filter((path) => path.endsWith('.node')).map((path) => path.split('/')[2])).toEqual([
    `koffi-${process.platform}-${process.arch}`,
  ])
  expect(compute).toContain('out/main/llama.js')
  expect(compute).toContain('resources/sample-model/model.safetensors')
})

test('every package comes with its description, and those with a licence file with that', () => {
  const places = new Set([...archive, ...compute].flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []))
  expect(places.size).toBeGreaterThan(15)
  for (const place of places) {
    expect([...archive, ...compute]).toContain(`${place}/package.json`)
    for (const name of readdirSync(join(root, place)).filter((one) => /^licen[cs]e/i.test(one)))
      expect([...archive, ...compute]).toContain(`${place}/${name}`)
  }
})

test('ggml is shipped with its library for Vulkan', () => {
  const folder = scratchOfTest('packaging')
  vi.stubEnv('ESPALIER_CACHE', folder)
  vi.stubEnv('ESPALIER_VULKAN', '1')
  onTestFinished(() => void vi.unstubAllEnvs())
  const places = [ggmlFolder('ggml'), ggmlFolder('ggml-vulkan')]
  for (const place of places) {
    mkdirSync(place, { recursive: true })
    writeFileSync(join(place, 'runtime.json'), '{}')
  }
  copyLibraries(join(folder, 'compute'))
  expect(readdirSync(join(folder, 'compute')).sort()).toEqual(places.map((place) => basename(place)))
})

test('a packaged window finds what comes with Espalier where packaging copies it: beside the archive', () => {
  expect(resourcesNear(join('/opt/espalier/resources/app.asar', 'out', 'main'))).toBe(resolve('/opt/espalier/resources/compute/resources'))
  expect(resourcesNear(join('/home/app.asar-user', 'src-main', 'runtime'))).toBe(resolve('/home/app.asar-user/resources'))
})

test('a process that computes with TensorFlow loads only files that are shipped', () => {
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
  const shipped = new Set(compute.map((path) => realpathSync(join(root, path))))
  expect(paths.length).toBeGreaterThan(0)
  expect(paths.filter((path) => !shipped.has(path))).toEqual([])
  if (name.startsWith('tensorflow')) expect(paths.some((path) => path.includes('tfjs-node-gpu'))).toBe(true)
})
