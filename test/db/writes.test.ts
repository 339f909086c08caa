import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { connect, type Database } from '#db/database.ts'
import { type History, openHistory } from '#db/history.ts'
import { eventually } from '../eventually.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'

let folder: string
let history: History
let other: Database

beforeEach(() => {
  folder = scratchOfTest('test')
  history = openHistory(folder, undefined, undefined, { retryMilliseconds: 10 })
  other = connect(join(folder, 'history.sqlite'))
  other.exec('BEGIN IMMEDIATE')
  history.writes.attempt(() => history.settings.set('name', 1))
  expect(history.writes.obstacle?.kind).toBe('locked')
})
afterEach(() => {
  other.close()
  history.close()
})

test('what waits for a locked history continues in the same turn in which the lock is gone', async () => {
  const { writes } = history
  let passed = 0
  for (const patience of [60_000, Number.POSITIVE_INFINITY]) void writes.clear(patience).then(() => passed++)
  const gone = new Promise<number>((resolve) => writes.onChange(() => setImmediate(() => resolve(passed))))
  other.exec('COMMIT')
  expect(await gone).toBe(2)
  await expect(writes.clear(0)).resolves.toBeUndefined()
})

test('patience ends with the reason, an abort with its own, and closing lets everyone go', async () => {
  const { writes } = history
  const leaving = new AbortController()
  const left = writes.clear(60_000, leaving.signal)
  leaving.abort(new Error('left'))
  await expect(left).rejects.toThrow('left')
  await expect(writes.clear(60_000, leaving.signal)).rejects.toThrow('left')
  await expect(writes.clear(0)).rejects.toThrow(/history\.sqlite is locked/)
  await expect(writes.clear(20)).rejects.toThrow(/history\.sqlite is locked/)
  let passed = false
  void writes.clear(60_000).then(() => (passed = true))
  history.close()
  await eventually(() => passed, 'the end of the wait')
})
