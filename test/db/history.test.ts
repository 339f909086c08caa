import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { beforeEach, expect, test } from 'vitest'
import { integrityProblems, listBackups, makeBackup, restoreBackup } from '#db/backups.ts'
import { connect } from '#db/database.ts'
import { historyFolders, openHistory } from '#db/history.ts'
import { latestVersion, migrate, migrations, schemaVersion } from '#db/migrate.ts'
import { inlineBytes, ValueStore, writeDurably } from '#db/values.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { insertRun } from './rows.ts'

let folder: string

beforeEach(() => {
  folder = scratchOfTest('test')
})

test('each migration happens whole or not at all', () => {
  const db = connect(join(folder, 'steps.sqlite'))
  const good = 'CREATE TABLE one (id INTEGER)'
  expect(() => migrate(db, [good, 'CREATE TABLE two (id INTEGER); INSERT INTO nowhere VALUES (1)'])).toThrow(/nowhere/)
  expect(schemaVersion(db)).toBe(18)
  expect(db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all()).toEqual(['one'])
  migrate(db, [good, 'CREATE TABLE two (id INTEGER)'])
  expect(schemaVersion(db)).toBe(19)
  db.close()
})

test('the file is copied before it is migrated', () => {
  const first = openHistory(folder)
  insertRun(first)
  first.close()
  const later = openHistory(folder, undefined, [...migrations, 'ALTER TABLE runs ADD COLUMN colour TEXT'])
  expect(schemaVersion(later.db)).toBe(latestVersion() + 1)
  const [backup] = listBackups(later.folders.backups)
  expect(backup?.name).toContain(`before-schema-${latestVersion() + 1}`)
  const copy = connect(join(later.folders.backups, backup?.name as string))
  expect([schemaVersion(copy), copy.prepare('SELECT count(*) FROM runs').pluck().get()]).toEqual([latestVersion(), 1])
  copy.close()
  later.close()
})

test('a history is checked and migrated while another process changes its tables', async () => {
  const { file } = historyFolders(folder)
  const old = connect(file)
  migrate(old)
  old.close()
  const later = [...migrations, 'CREATE TABLE later (id INTEGER)']
  // Writes again and again until all migrations are done, like a process in the middle of its own.
  const other = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
    const db = new (require('better-sqlite3'))(workerData.file)
    for (let round = 0; db.pragma('user_version', { simple: true }) < workerData.last; round++) {
      db.transaction(() => db.exec('CREATE TABLE other (id INTEGER); DROP TABLE other')).immediate()
      if (round === 10) parentPort.postMessage('under way')
    }
    db.close()`,
    { eval: true, workerData: { file, last: latestVersion(later) } },
  )
  await once(other, 'message')
  const history = openHistory(folder, undefined, later)
  expect(schemaVersion(history.db)).toBe(latestVersion(later))
  history.close()
  await once(other, 'exit')
})

test.each([
  { version: 999, reason: /newer Espalier \(schema 999/ },
  { version: 17, reason: /before the first release \(schema 17; the oldest that can be opened is 18/ },
])('a history of version $version is refused and left as it was', ({ version, reason }) => {
  openHistory(folder).close()
  const { file } = historyFolders(folder)
  const db = connect(file)
  db.pragma(`user_version = ${version}`)
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
  const before = readFileSync(file)
  expect(() => openHistory(folder)).toThrow(reason)
  expect(readFileSync(file).equals(before)).toBe(true)
})

test('a damaged history is refused with where the copies are', () => {
  const history = openHistory(folder)
  for (let at = 0; at < 200; at++) insertRun(history)
  history.close()
  const { file, backups } = historyFolders(folder)
  const bytes = readFileSync(file)
  for (let at = 4096; at < bytes.length; at += 2) bytes[at] = 0xff
  writeFileSync(file, bytes)
  expect(() => openHistory(folder)).toThrow(`backup from ${backups}`)
  writeFileSync(file, 'this is no database, although it is long enough to be looked at as one')
  expect(() => openHistory(folder)).toThrow(/damaged/)
})

test('a backup made while another connection writes is whole', () => {
  const history = openHistory(folder)
  insertRun(history)
  const writer = connect(history.folders.file)
  writer.exec("BEGIN IMMEDIATE; UPDATE runs SET name = 'unfinished'")
  const { name } = makeBackup(history.db, history.folders.backups, 'test')
  writer.exec('ROLLBACK')
  writer.close()
  const copy = connect(join(history.folders.backups, name))
  expect(integrityProblems(copy, true)).toEqual([])
  expect(copy.prepare('SELECT name FROM runs').pluck().all()).toEqual(['a run'])
  copy.close()
  history.close()
})

test('a damaged backup does not replace the history', () => {
  const history = openHistory(folder)
  insertRun(history)
  const { file, backups } = history.folders
  const { name } = makeBackup(history.db, backups, 'test')
  history.close()
  truncateSync(join(backups, name), 5000)
  expect(() => restoreBackup(file, backups, name)).toThrow()
  const again = openHistory(folder)
  expect(again.runs.count()).toBe(1)
  again.close()
  expect(readdirSync(folder).filter((entry) => entry.includes('incoming'))).toEqual([])
})

test('only the newest copies are kept', () => {
  const history = openHistory(folder)
  for (let at = 0; at < 13; at++) makeBackup(history.db, history.folders.backups, `n${at}`)
  expect(listBackups(history.folders.backups).length).toBe(10)
  history.close()
})

test('a large value goes to a file with a hash, and a changed file is noticed', () => {
  const values = new ValueStore(join(folder, 'values'))
  const small = values.put({ text: 'x'.repeat(inlineBytes / 2) })
  const large = values.put({ text: 'x'.repeat(inlineBytes) })
  expect([small.file, large.value]).toEqual([null, null])
  expect(values.get(large)).toEqual({ text: 'x'.repeat(inlineBytes) })
  expect(values.put({ text: 'x'.repeat(inlineBytes) })).toEqual(large)
  const path = join(folder, 'values', readdirSync(join(folder, 'values'))[0] as string, large.file as string)
  writeFileSync(path, '{}')
  expect(() => values.get(large)).toThrow(/missing or damaged/)
  rmSync(path)
  expect(() => values.get(large)).toThrow(/missing or damaged/)
})

test('a write that fails leaves nothing under the final name', () => {
  const file = join(folder, 'taken')
  writeDurably(join(file, 'inside'), Buffer.from('x'))
  expect(() => writeDurably(file, Buffer.from('y'))).toThrow()
  expect(readdirSync(folder)).toEqual(['taken'])
})

test('a stored step is found unchanged, numbers to the last bit', () => {
  const history = openHistory(folder)
  const value = { scores: [0.1 + 0.2, Number.MIN_VALUE, -0, 1e308], nested: { text: '\u2028 "quoted" ✓' }, nothing: null }
  history.steps.put('run-a', 'step', value, 1)
  expect(history.steps.get('run-a', 'step')?.value).toEqual(JSON.parse(JSON.stringify(value)))
  expect(history.steps.get('run-b', 'step')).toBeUndefined()
  history.close()
})

test('a copy that a killed process left half done is removed, and one that another is making is not', () => {
  const history = openHistory(folder)
  const { backups } = history.folders
  mkdirSync(backups, { recursive: true })
  const [left, made] = [`a.sqlite.${2 ** 22 + 1}-0f@${hostname()}.unfinished`, `b.sqlite.${process.pid}-0f@${hostname()}.unfinished`]
  for (const name of [left, made]) writeFileSync(join(backups, name), 'half')
  makeBackup(history.db, backups, 'test')
  expect(readdirSync(backups).filter((name) => name.endsWith('.unfinished'))).toEqual([made])
  history.close()
})

test('a clock that was set back keeps no dead machine alive, and no living process of this one dead', () => {
  const history = openHistory(folder)
  const [before, now] = [Date.now(), Date.now() - 3_600_000]
  history.owners.register('owner-me', before)
  history.db
    .prepare('INSERT INTO owners(id, pid, host, started_at, heartbeat_at, works_queue) VALUES (?, 1, ?, ?, ?, 1)')
    .run('owner-elsewhere', 'another-machine', before, before)
  expect(history.owners.dead(now)).toEqual(['owner-elsewhere'])
  expect(history.owners.takeQueue('owner-me', now)).toBe(true)
  history.close()
})

test('runs of a dead owner become interrupted, those of a living one do not', () => {
  const history = openHistory(folder)
  const now = Date.now()
  history.owners.register('owner-me', now)
  const insertOwner = history.db.prepare(
    'INSERT INTO owners(id, pid, host, started_at, heartbeat_at, works_queue) VALUES (?, ?, ?, ?, ?, 1)',
  )
  insertOwner.run('owner-elsewhere', 1, 'another-machine', now, now)
  insertOwner.run('owner-silent', process.pid, 'another-machine', now, now - 120_000)
  insertOwner.run('owner-gone', 2 ** 22 + 1, history.db.prepare('SELECT host FROM owners WHERE id = ?').pluck().get('owner-me'), now, now)
  const runs = ['owner-me', 'owner-elsewhere', 'owner-silent', 'owner-gone'].map((owner) => {
    const run = insertRun(history, { status: 'draft' })
    history.queue.claim(run.number, owner, 'cpu', now)
    return run.id
  })
  expect(history.owners.dead(now).toSorted()).toEqual(['owner-gone', 'owner-silent'])
  history.queue.interruptOrphans(history.owners.dead(now), now)
  expect(runs.map((id) => history.runs.find(id)?.status)).toEqual(['running', 'running', 'interrupted', 'interrupted'])
  expect(history.owners.takeQueue('owner-me', now)).toBe(false)
  history.owners.remove('owner-elsewhere')
  expect(history.owners.takeQueue('owner-me', now)).toBe(true)
  history.close()
})

test('two connections never claim the same run', () => {
  const [first, second] = [openHistory(folder), openHistory(folder)]
  const runs = Array.from({ length: 10 }, () => insertRun(first, { status: 'draft' }).number)
  first.queue.enqueue(runs)
  const claimed = Array.from({ length: 12 }, (_, at) => (at % 2 ? first : second).queue.claimNext(`owner-${at % 2}`, 'cpu', 1)?.number)
  expect(claimed).toEqual([...runs, undefined, undefined])
  first.close()
  second.close()
})
