import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test, vi } from 'vitest'
import { arePackagesCurrent, ensurePackages } from '../../src-main/setup/packages.mjs'
import { scratchFolder } from './scratch.ts'

let checkout: string
let log: string

/** A checkout with one locked package, and an npm that installs it and records that it did. */
beforeEach(() => {
  const folder = scratchFolder()
  checkout = join(folder, 'checkout')
  log = join(folder, 'log')
  mkdirSync(checkout)
  // The temporary folder may be below a package.json that makes npm.js a module.
  writeFileSync(join(folder, 'package.json'), '{"type":"commonjs"}')
  lock('1.0.0')
  npm(
    "const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')); mkdirSync('node_modules', { recursive: true }); writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages }))",
  )
  vi.stubEnv('ESPALIER_CACHE', join(folder, 'cache'))
  vi.stubEnv('npm_execpath', join(folder, 'npm.js'))
  vi.stubEnv('npm_node_execpath', process.execPath)
  return () => vi.unstubAllEnvs()
})

function lock(version: string) {
  writeFileSync(join(checkout, 'package-lock.json'), JSON.stringify({ packages: { '': {}, 'node_modules/a': { version } } }))
}

function npm(work: string) {
  const head = "const { appendFileSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs')"
  writeFileSync(
    join(log, '..', 'npm.js'),
    `${head}\nappendFileSync(${JSON.stringify(log)}, process.argv.slice(2).join(' ') + '\\n')\n${work}\n`,
  )
}

const runs = () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [])

test('an empty checkout is installed once, with scripts off, and not again', async () => {
  await ensurePackages(checkout)
  await ensurePackages(checkout)
  expect(runs()).toHaveLength(1)
  expect(runs()[0]).toMatch(/^(ci|install) --ignore-scripts/)
})

test('a changed lock file is installed again', async () => {
  await ensurePackages(checkout)
  lock('1.1.0')
  expect(arePackagesCurrent(checkout)).toBe(false)
  await ensurePackages(checkout)
  expect(runs()).toHaveLength(2)
})

test('what npm itself installed is accepted without installing it again', async () => {
  mkdirSync(join(checkout, 'node_modules'))
  writeFileSync(join(checkout, 'node_modules', '.package-lock.json'), readFileSync(join(checkout, 'package-lock.json')))
  await ensurePackages(checkout)
  expect(runs()).toEqual([])
})

test('a killed npm leaves nothing that looks complete', async () => {
  await ensurePackages(checkout)
  lock('1.1.0')
  npm('process.kill(process.pid, "SIGKILL")')
  await expect(ensurePackages(checkout)).rejects.toThrow('npm could not install the packages')
  lock('1.0.0')
  expect(arePackagesCurrent(checkout)).toBe(false)
})

test('an npm that says why it failed is quoted', async () => {
  npm('console.error("no space left"); process.exit(1)')
  await expect(ensurePackages(checkout)).rejects.toThrow('npm could not install the packages:\nno space left')
  rmSync(log)
})
