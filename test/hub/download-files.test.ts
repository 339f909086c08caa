import { expect, test } from 'vitest'
import type { Progress } from '#contract/runs/time/progress.ts'
import { readRetryAfter } from '#hub/connection.ts'
import { ProgressMeter } from '#hub/download-files.ts'
import { isSafePath } from '#hub/names.ts'

test('resumed bytes count as done and not as speed; a restart of one file lowers what is done', () => {
  let seconds = 0
  const reports: Progress[] = []
  const meter = new ProgressMeter(
    'downloading x',
    1000,
    (progress) => reports.push(progress),
    () => seconds,
  )
  meter.begin('a', 400)
  seconds = 2
  meter.update('a', 500)
  expect(reports.at(-1)).toEqual({ phase: 'downloading x', done: 500, total: 1000, unit: 'bytes', perSecond: 50, secondsLeft: 10 })
  seconds = 4
  meter.update('a', 0)
  expect(reports.at(-1)?.done).toBe(0)
})

test('safe names keep to their folder on every platform', () => {
  for (const name of ['model.safetensors', 'en/c4-train.00000-of-01024.json.gz', 'größe.json', '.gitattributes'])
    expect(isSafePath(name), name).toBe(true)
  for (const name of [
    '',
    '/etc/passwd',
    'a//b',
    '../a',
    'a/..',
    'a/./b',
    'a\\b',
    'C:a',
    'con',
    'LPT1.txt',
    'a.',
    'a ',
    'a\0b',
    'a\nb',
    `${'x'.repeat(300)}`,
  ]) {
    expect(isSafePath(name), name).toBe(false)
  }
})

test('Retry-After is read as seconds and as a date', () => {
  expect(readRetryAfter('7')).toBe(7)
  expect(readRetryAfter('Thu, 01 Jan 1970 00:00:10 GMT', 4000)).toBe(6)
  expect(readRetryAfter('Thu, 01 Jan 1970 00:00:01 GMT', 4000)).toBe(0)
  expect(readRetryAfter('soon')).toBeUndefined()
  expect(readRetryAfter(null)).toBeUndefined()
})
