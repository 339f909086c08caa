import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { scratchOfTest } from '../fixtures/scratch.ts'

const program = join(import.meta.dirname, '../../src-main/cli/espalier.mjs')
let cache: string
beforeEach(() => {
  cache = scratchOfTest('compiled')
})

function askVersion(): string {
  const { NODE_COMPILE_CACHE: _, ...environment } = process.env
  return execFileSync(process.execPath, [program, '--version'], { encoding: 'utf8', env: { ...environment, ESPALIER_CACHE: cache } })
}

const kept = () => readdirSync(join(cache, 'compiled'), { recursive: true })

test('compiled code is kept where only its user can write', () => {
  expect(askVersion()).toMatch(/^\d+\.\d+\.\d+\n$/)
  expect(kept().length).toBeGreaterThan(1)
  expect(statSync(join(cache, 'compiled')).mode & 0o022).toBe(0)
})

test.skipIf(process.platform === 'win32')('a folder that others can write is not used, and the command works all the same', () => {
  mkdirSync(join(cache, 'compiled'))
  chmodSync(join(cache, 'compiled'), 0o777)
  expect(askVersion()).toMatch(/^\d/)
  expect(kept()).toEqual([])
})

test('a cache folder that cannot be created is not needed', () => {
  rmSync(cache, { recursive: true })
  mkdirSync(cache, { mode: 0o500 })
  expect(askVersion()).toMatch(/^\d/)
  // Root may write anywhere.
  expect(existsSync(join(cache, 'compiled'))).toBe(process.getuid?.() === 0)
})
