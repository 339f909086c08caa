import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { env } from 'node:process'
import { afterEach, expect, test } from 'vitest'
import { openOpenblas } from '#engine/algebra/openblas.ts'
import { findOpenblas, openblasFile } from '#runtime/openblas.mjs'

const before = env.ESPALIER_CACHE
const cache = mkdtempSync(join(tmpdir(), 'espalier-openblas-'))
const folder = join(cache, 'runtime', basename(findOpenblas() ?? 'missing'))

afterEach(() => {
  if (before === undefined) delete env.ESPALIER_CACHE
  else env.ESPALIER_CACHE = before
  rmSync(cache, { recursive: true, force: true })
})

test.each([
  ['that is missing is not loaded', () => rmSync(folder, { recursive: true }), false],
  ['that setup installed is loaded', () => {}, true],
  ['that was changed is not loaded', () => appendFileSync(join(folder, openblasFile ?? ''), ' '), false],
  ['beside a file that setup did not install is not loaded', () => appendFileSync(join(folder, 'libother.so'), ''), false],
] as const)('a library %s', (_, change, isLoaded) => {
  const source = findOpenblas() as string
  mkdirSync(join(cache, 'runtime'), { recursive: true })
  cpSync(source, folder, { recursive: true })
  env.ESPALIER_CACHE = cache
  change()
  expect(openOpenblas() !== undefined).toBe(isLoaded)
})
