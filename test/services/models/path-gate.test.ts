import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Input } from '#contract/api.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { openWorkbench } from '#services/workbench.ts'
import { scratchFolder, scratchOfTest } from '../../fixtures/scratch.ts'
import { fakeCompute, openedWorkbench, runEnded } from '../opened.ts'

const outside = scratchFolder('outside')

type Request = Input<'runs.create'>['request']
const request: Request = {
  method: '2ssp',
  amount: { sparsity: 0.25 },
  options: {},
  seed: 0,
  calibration: { source: 'sample', sequenceLength: 8 },
  measures: [],
  backend: 'auto',
}
const saved = { ...request, save: { folder: join(outside, 'stolen'), format: 'exact' } }

const refusal = (work: Promise<unknown>) => work.then(() => undefined, toErrorMessage)

test('a run has no place to write to: one that a request or the file of a stranger names is dropped', async () => {
  await using workbench = await openedWorkbench()
  const { call, model } = workbench
  const { id } = await call('runs.create', { model: model.id, request: saved, start: 'draft' })
  const { experiment } = await call('experiments.create', {
    name: 'theirs',
    grid: { models: [model.id], methods: [], amounts: [], measures: [], backend: 'auto' },
    start: 'draft',
  })
  const file = JSON.parse((await call('experiments.export', { id: experiment.id })).content)
  file.runs[0].request.save = saved.save
  const { experiment: mine } = await call('experiments.import', { content: JSON.stringify(file) })
  const [imported] = (await call('runs.query', { experiment: mine.id })).rows
  for (const run of [id, imported?.id as string]) expect((await call('runs.describe', { id: run })).request).not.toHaveProperty('save')
  const clone = await call('runs.clone', { id: imported?.id as string, start: 'queue' })
  expect((await runEnded(workbench, clone.id)).status).toBe('done')
  expect(existsSync(saved.save.folder)).toBe(false)
})

test('a link inside of the folders that may be written leads nowhere else', async () => {
  await using workbench = await openedWorkbench()
  const { call, model } = workbench
  const { exports } = (await call('settings.get', {})).folders
  mkdirSync(exports, { recursive: true })
  symlinkSync(outside, join(exports, 'link'))
  const folder = join(exports, 'link', 'x')
  expect((await refusal(call('runs.checkSave', { model: model.id, method: '2ssp', folder, formats: ['exact'] })))?.code).toBe('invalid')
})

test.skipIf(process.platform !== 'linux')("the system's pseudo files are refused for everything", async () => {
  await using workbench = await openedWorkbench()
  const { call, model } = workbench
  const inProc = { code: 'invalid', message: expect.stringContaining('is in the pseudo file system /proc') }
  expect(await refusal(call('models.check', { path: '/proc/self' }))).toMatchObject(inProc)
  expect(await refusal(call('files.browse', { folder: '/proc' }))).toMatchObject(inProc)
  expect(await refusal(call('settings.update', { folders: { exports: '/proc/x' } }))).toMatchObject(inProc)
  expect(
    await refusal(
      call('runs.create', { model: model.id, request: { ...request, calibration: { source: '/proc/self/environ', sequenceLength: 8 } } }),
    ),
  ).toMatchObject(inProc)
  expect(await refusal(openWorkbench({ folder: '/proc/x', devices: [], computeCommand: fakeCompute }))).toMatchObject(inProc)
  expect((await refusal(call('models.check', { path: 'a\0b' })))?.code).toBe('invalid')
})

test('a copy of a model follows no link out of its folder', async () => {
  await using workbench = await openedWorkbench()
  const given = join(workbench.folder, 'given', 'theirs')
  mkdirSync(given, { recursive: true })
  writeFileSync(join(given, 'config.json'), '{}')
  writeFileSync(join(outside, 'secret'), 'secret')
  symlinkSync(join(outside, 'secret'), join(given, 'README.md'))
  expect(await refusal(workbench.call('models.add', { path: given, mode: 'copy' }))).toMatchObject({
    message: expect.stringMatching(/README\.md is a link to .*secret, outside the model's folder/),
  })
  expect(existsSync(join(workbench.folder, 'models', 'theirs'))).toBe(false)
})

test.skipIf(process.platform === 'win32')(
  'history, token and note are read by their user alone, also in a folder that others may read',
  async () => {
    const folder = scratchOfTest('modes')
    const before = process.umask(0)
    try {
      writeFileSync(join(folder, 'history.sqlite'), '', { mode: 0o666 })
      await using workbench = await openedWorkbench({ folder })
      await workbench.call('settings.setHubToken', { token: 'hf_x' })
      const { name } = await workbench.call('history.backup', {})
      for (const file of ['history.sqlite', 'history.sqlite-wal', 'history.sqlite-shm', 'hub-token', join('backups', name)])
        expect((statSync(join(folder, file)).mode & 0o777).toString(8), file).toBe('600')
      expect(readFileSync(join(folder, 'hub-token'), 'utf8')).toBe('hf_x\n')
    } finally {
      process.umask(before)
    }
  },
)

test('~ is the user’s folder, alone or before a path, and nothing else is replaced', async () => {
  await using workbench = await openedWorkbench()
  const { folder } = await workbench.call('files.browse', { folder: '~' })
  expect(folder).toBe(homedir())
  expect(await refusal(workbench.call('models.check', { path: '~/not/there' }))).toMatchObject({
    message: expect.stringContaining(`${join(homedir(), 'not/there')} does not exist`),
  })
  expect(await refusal(workbench.call('models.check', { path: '/a/~/b' }))).toMatchObject({ message: expect.stringContaining('/a/~/b') })
})

test('a folder that does not exist is distinguished from one that cannot be listed', async () => {
  await using workbench = await openedWorkbench()
  const missing = join(workbench.folder, 'missing')
  await expect(workbench.call('files.browse', { folder: missing })).rejects.toThrow(`${missing} does not exist. Choose another folder.`)
  const file = join(workbench.folder, 'file')
  writeFileSync(file, '')
  await expect(workbench.call('files.browse', { folder: file })).rejects.toThrow(`${file} cannot be read.`)
})

test('a folder lists folders, models, and everything that can be read as text, such as source code', async () => {
  await using workbench = await openedWorkbench()
  const folder = join(workbench.folder, 'work')
  mkdirSync(join(folder, 'src'), { recursive: true })
  for (const name of ['main.py', 'notes.md', 'rows.jsonl.gz', 'model.gguf', 'picture.png', 'Makefile', '.hidden.txt'])
    writeFileSync(join(folder, name), '')
  const { entries } = await workbench.call('files.browse', { folder })
  expect(Object.fromEntries(entries.map(({ name, kind }) => [name, kind]))).toEqual({
    'main.py': 'data',
    'model.gguf': 'model',
    'notes.md': 'data',
    'rows.jsonl.gz': 'data',
    src: 'folder',
  })
})
