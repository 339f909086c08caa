import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'

test('a message that echoes a hundred thousand characters is cut, with its begin and its end', () => {
  const { message } = toErrorMessage(new EspalierError('invalid', `The key ${'x'.repeat(100_000)} is too long.`))
  expect(message.length).toBeLessThan(2100)
  expect(message).toMatch(/^The key x+ … \(100021 characters\) … x+ is too long\.$/)
  expect(toErrorMessage(new Error('y'.repeat(5000))).message.length).toBeLessThan(2100)
})

test.each([
  ['ENOSPC', 'The disk is full: /a/b could not be written. Free some space and try again.'],
  ['EACCES', 'You do not have permission to read or write /a/b. Change its permissions, or choose another place.'],
  ['ENAMETOOLONG', '/a/b is longer than this system allows. Choose a shorter name.'],
])('%s is a sentence, and a fault of the disk', (code, message) => {
  expect(toErrorMessage(Object.assign(new Error(`${code}: whatever, open '/a/b'`), { code, path: '/a/b' }))).toEqual({
    code: 'disk',
    message,
  })
})

test('the system’s own faults are among them', () => {
  const folder = scratchOfTest('errors')
  const refused = (work: () => void) => {
    try {
      work()
    } catch (thrown) {
      return toErrorMessage(thrown)
    }
    return undefined
  }
  expect(refused(() => mkdirSync(folder))).toEqual({ code: 'disk', message: `${folder} already exists. Choose another name.` })
  expect(refused(() => writeFileSync(folder, ''))).toMatchObject({ code: 'disk', message: expect.stringContaining('is a folder') })
  expect(refused(() => mkdirSync(join(folder, 'x'.repeat(300))))?.message).toContain('longer than this system allows')
})

test('what the history’s file cannot do is a fault of the disk, with what to do', () => {
  const thrown = Object.assign(new Error('no such table: runs'), { code: 'SQLITE_ERROR' })
  expect(toErrorMessage(thrown)).toEqual({
    code: 'disk',
    message: 'The history cannot be used: no such table: runs. If this happens again, its file is damaged: restore a backup.',
  })
})
