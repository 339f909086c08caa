import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mayShip } from '../../src-main/setup/licences.mjs'

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

test('everything that is shipped may be, and the list says so', () => {
  const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, '../../src-main/setup/licences.mjs')], {
    encoding: 'utf8',
  })
  expect(stdout).toContain('Apache-2.0 can ship all of them.')
  expect(stdout).toMatch(/^svelte .* MIT$/m)
  expect(stdout).toMatch(/^zod .* MIT$/m)
  expect(status).toBe(0)
})
