import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mayShip, shippedPackages } from '../../src-main/setup/licences.mjs'

test.each([
  ['MIT', true],
  ['(BSD-3-Clause AND Apache-2.0)', true],
  ['(GPL-3.0-only OR MIT)', true],
  ['GPL-3.0-only', false],
  ['MIT AND GPL-2.0-only', false],
  ['none stated', false],
])('%s may be shipped with Apache-2.0: %s', (licence, expected) => {
  expect(mayShip(licence)).toBe(expected)
})

test('what a shipped package needs is shipped too, from the place where Node finds it', () => {
  const locked = {
    'node_modules/a': { version: '1', dependencies: { b: '1' } },
    'node_modules/a/node_modules/b': { version: '1', dependencies: { c: '1' } },
    'node_modules/b': { version: '2' },
    'node_modules/c': { version: '3' },
  }
  expect([...shippedPackages(locked, ['a']).keys()]).toEqual(['node_modules/a', 'node_modules/a/node_modules/b', 'node_modules/c'])
})

test('everything that is shipped may be, and the list says so', () => {
  const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, '../../src-main/setup/licences.mjs')], {
    encoding: 'utf8',
  })
  expect(stdout).toContain('Apache-2.0 can ship all of them.')
  expect(stdout).toMatch(/^svelte .* MIT$/m)
  expect(stdout).toMatch(/^zod .* MIT$/m)
  expect(status).toBe(0)
})
