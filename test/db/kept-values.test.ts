import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { connect } from '#db/database.ts'
import { historyFolders, openHistory } from '#db/history.ts'
import { inlineBytes } from '#db/values.ts'
import { writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import { openWorkbench } from '#services/workbench.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { fakeCompute, type Opened, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'
import { insertRun } from './rows.ts'

let folder: string

beforeEach(() => {
  folder = scratchOfTest('test')
})

const valuesIn = (data: string) =>
  readdirSync(join(data, 'values'), { recursive: true, encoding: 'utf8' }).filter((name) => /\.(json|safetensors)$/.test(name))

/** Makes all stored values an hour old, so that none is spared because it may be in the making. */
function age(data: string): void {
  const before = Date.now() / 1000 - 3600
  for (const name of valuesIn(data)) utimesSync(join(data, 'values', name), before, before)
}

/** A finished run whose steps are files of their own; `seed` makes them differ from those of other runs. */
async function largeRun(workbench: Opened, seed: number): Promise<string> {
  const { id } = await oneRun(workbench, { rounds: 3, stepBytes: inlineBytes + seed }, seed)
  expect((await runEnded(workbench, id)).status).toBe('done')
  return id
}

async function removeRun({ call }: Pick<Opened, 'call'>, id: string): Promise<void> {
  await call('runs.archive', { ids: [id] })
  await call('runs.remove', { ids: [id] })
}

const stepsOf = (data: string, run: string) => {
  const history = openHistory(data)
  try {
    return history.steps.ofScope(run)
  } finally {
    history.close()
  }
}

test('an older history that deletes a run keeps the values of runs that it does not know', async () => {
  const workbench = await openedWorkbench({ folder })
  const older = await largeRun(workbench, 1)
  await workbench.close()
  copyFileSync(join(folder, 'history.sqlite'), join(folder, 'older.sqlite'))
  const again = await openedWorkbench({ folder })
  const later = await largeRun(again, 2)
  await again.close()
  copyFileSync(join(folder, 'history.sqlite'), join(folder, 'newest.sqlite'))
  const steps = stepsOf(folder, later)

  copyFileSync(join(folder, 'older.sqlite'), join(folder, 'history.sqlite'))
  age(folder)
  const past = await openedWorkbench({ folder })
  await removeRun(past, older)
  const { unknown } = await past.call('history.get', {})
  await past.close()
  expect(unknown).toMatchObject({ files: 3, others: 0 })
  expect(unknown.bytes).toBeGreaterThan(3 * inlineBytes)

  copyFileSync(join(folder, 'newest.sqlite'), join(folder, 'history.sqlite'))
  expect(stepsOf(folder, later)).toEqual(steps)
})

test('an empty history beside stored values asks first, and then deletes none of them', async () => {
  const first = await openedWorkbench({ folder })
  await largeRun(first, 1)
  await first.close()
  age(folder)
  const stored = valuesIn(folder)
  const options = { folder, computeCommand: fakeCompute, devices: [], bundledModel: null }
  for (const lose of [() => truncateSync(join(folder, 'history.sqlite')), () => rmSync(join(folder, 'history.sqlite'))]) {
    lose()
    await expect(openWorkbench(options)).rejects.toThrow(
      /missing or empty, but .*values has 3 stored values .* Put the earlier history back/,
    )
  }
  const asked: string[] = []
  const again = await openedWorkbench({
    folder,
    mayBegin: async (question) => {
      asked.push(question)
      return true
    },
  })
  expect(asked.length).toBe(1)
  await removeRun(again, await largeRun(again, 2))
  const { unknown } = await again.call('history.get', {})
  expect(unknown).toMatchObject({ files: 3, others: 1 })
  expect(valuesIn(folder).toSorted()).toEqual([...stored].toSorted())

  const { unknown: left } = await again.call('history.removeUnknown', {})
  await again.close()
  expect([left.files, valuesIn(folder)]).toEqual([0, ['histories.json']])
  await (await openedWorkbench({ folder })).close()
})

test('a deleted run takes its values with it', async () => {
  await using workbench = await openedWorkbench()
  const [one, other] = [await largeRun(workbench, 1), await largeRun(workbench, 2)]
  expect(valuesIn(workbench.folder).length).toBe(3 + 3 + 1)
  await removeRun(workbench, one)
  expect(valuesIn(workbench.folder).length).toBe(3 + 1)
  await removeRun(workbench, other)
  expect(valuesIn(workbench.folder)).toEqual(['histories.json'])
})

test('a step that is replaced, cleared or deleted with its run releases its files', () => {
  const history = openHistory(folder)
  const long = (text: string) => text.repeat(inlineBytes)
  const tensors = { file: 'x', bytes: 3, sha256: 'a'.repeat(64) }
  mkdirSync(history.values.tensorFolder, { recursive: true })
  writeFileSync(history.values.placeTensors(tensors).file, 'abc')
  history.steps.put('run-a', 'step', long('a'), 1, tensors)
  history.steps.put('run-a', 'step', long('b'), 2)
  expect(history.values.sweep(history.db)).toBe(inlineBytes + 2 + 3)
  expect(history.steps.get('run-a', 'step')?.value).toBe(long('b'))
  history.steps.takeOver('run-b', 'step')
  history.steps.clear('run-b')
  expect(history.values.sweep(history.db)).toBe(0)
  expect(history.steps.get('run-a', 'step')?.value).toBe(long('b'))
  const { number } = insertRun(history)
  history.documents.setQuestions(number, [{ task: 'x', questions: [{ context: long('c') }] }] as never)
  history.steps.clear('run-a')
  history.runs.remove(number)
  expect(history.values.sweep(history.db)).toBeGreaterThan(2 * inlineBytes)
  expect(valuesIn(folder)).toEqual(['histories.json'])
  history.close()
})

test('a history that lost its last bytes is noticed, however few', () => {
  const history = openHistory(folder)
  for (let at = 0; at < 50; at++) insertRun(history)
  history.db.pragma('wal_checkpoint(TRUNCATE)')
  history.close()
  const { file } = historyFolders(folder)
  const { size } = statSync(file)
  for (const lost of [1, 100, 4096, 10_000]) {
    copyFileSync(file, `${file}.whole`)
    truncateSync(file, size - lost)
    expect(() => openHistory(folder), `${lost} bytes`).toThrow(lost < 4096 ? `its last ${lost} byte` : /damaged/)
    copyFileSync(`${file}.whole`, file)
  }
  openHistory(folder).close()
})

test('a history whose last pages are still in its log is whole', () => {
  const history = openHistory(folder)
  history.db.pragma('wal_autocheckpoint = 0')
  for (let at = 0; at < 200; at++) insertRun(history)
  const reader = connect(history.folders.file)
  reader.exec('BEGIN')
  expect(reader.prepare('SELECT count(*) FROM runs').pluck().get()).toBe(200)
  const other = openHistory(folder)
  expect(other.runs.count()).toBe(200)
  for (const one of [other, history]) one.close()
  reader.close()
})

test.skipIf(process.platform === 'win32')('a pipe in the place of the history is refused at once', () => {
  for (const name of ['history.sqlite', 'history.sqlite-wal', 'history.sqlite-shm']) {
    const file = join(folder, name)
    rmSync(file, { force: true })
    execFileSync('mkfifo', [file])
    const opener = join(import.meta.dirname, '..', 'kills', 'open-history.ts')
    const { status, stderr } = spawnSync(process.execPath, [opener, folder], { timeout: 30_000, encoding: 'utf8' })
    expect([status, stderr]).toEqual([1, expect.stringContaining(`${file} is not a regular file`)])
    rmSync(file)
  }
})

test('a data folder that is a file is named as that', () => {
  const file = join(folder, 'taken')
  writeFileSync(file, '')
  expect(() => openHistory(file)).toThrow(`The data folder ${file} is a file. Move it away`)
})

test('a damaged row of settings is named and stops no start', async () => {
  const first = await openedWorkbench({ folder })
  await first.call('settings.update', { theme: 'dark' })
  await first.close()
  const db = connect(join(folder, 'history.sqlite'))
  db.prepare("UPDATE settings SET value = '{\"theme\":' WHERE name = 'settings'").run()
  db.close()
  const again = await openedWorkbench({ folder })
  expect((await again.call('settings.get', {})).theme).toBe('system')
  expect(await again.call('history.get', {})).toMatchObject({
    intact: true,
    problems: [expect.stringContaining('"settings" is not valid')],
  })
  await again.call('settings.update', { theme: 'dark' })
  expect(await again.call('history.get', {})).toMatchObject({ problems: [] })
  await again.close()
})

test('a start removes what killed processes left half written, and nothing that is being written', () => {
  const tensors = join(folder, 'values', 'tensors')
  mkdirSync(tensors, { recursive: true })
  const gone = `tensors.${2 ** 22 + 1}-00ff@${hostname()}.unfinished`
  const [mine, elsewhere] = [`tensors.${process.pid}-00ff@${hostname()}.unfinished`, 'tensors.1-00ff@another-machine.unfinished']
  for (const name of [gone, mine, elsewhere]) writeFileSync(join(tensors, name), 'half')
  openHistory(folder).close()
  expect([gone, mine, elsewhere].map((name) => existsSync(join(tensors, name)))).toEqual([false, true, true])
})

test.skipIf(process.platform === 'win32')('only the user can read stored tensors', async () => {
  const { file } = await writeTensorFile(folder, new Map([['x', { values: Float32Array.of(1), shape: [1] }]]))
  expect(statSync(file).mode & 0o777).toBe(0o600)
})
