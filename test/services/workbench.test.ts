import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { api, type CallName } from '#contract/api.ts'
import { eventually } from '../eventually.ts'
import { oneRun, openedWorkbench, runEnded, smallGrid } from './opened.ts'

const callNames = Object.keys(api) as CallName[]

test('a grid runs to its end with its dense baseline first, and is found again after a restart', async () => {
  await using first = await openedWorkbench()
  const { experiment, runs } = await first.call('experiments.create', { name: 'Trial', grid: smallGrid(first) })
  expect(runs.map(({ method }) => method)).toEqual(['dense', '2ssp', 'shortgpt'])
  for (const { id } of runs) expect((await runEnded(first, id)).status).toBe('done')

  await using again = await first.reopened()
  const [found] = await again.call('experiments.list', {})
  expect(found).toMatchObject({ id: experiment.id, counts: { done: 3 }, runs: 3, baselines: [runs[0]?.id] })
  const { rows, total } = await again.call('runs.query', {
    search: 'shortgpt',
    conditions: [{ field: 'measure:perplexity', is: 'below', value: 100 }],
  })
  expect({ total, measures: rows[0]?.measures }).toMatchObject({
    total: 1,
    measures: [{ name: 'perplexity', dataset: 'sample', value: 14, best: 14 }],
  })
  const compared = await again.call('compare.get', { ids: [runs[1]?.id as string, runs[2]?.id as string] })
  expect(compared.baseline).toBe(runs[0]?.id)
  expect(compared.runs.map(({ plan }) => plan?.blocks.length)).toEqual([4, 4, 4])
})

test('a run reports its decisions and its measures as events, in order and once', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench)
  await runEnded(workbench, id)
  const { events } = await workbench.call('runs.events', { id })
  expect(events.map(({ event }) => event.type)).toEqual(['decision', 'decision', 'decision', 'decision', 'measure'])
  expect(events.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5])
  const reported = workbench.events.flatMap((event) =>
    event.name === 'run event' && event.data.recorded.event.type !== 'progress' ? [event.data.recorded.sequence] : [],
  )
  expect(reported).toEqual([1, 2, 3, 4, 5])
})

test('an infeasible sparsity is refused before anything is written', async () => {
  await using workbench = await openedWorkbench()
  const grid = { ...smallGrid(workbench), amounts: [{ sparsity: 0.25 }, { sparsity: 0.95 }] }
  const preview = await workbench.call('experiments.preview', { grid })
  expect(preview.problems).toEqual([
    { code: 'infeasible', field: 'combinations.1', message: 'Choose at most 0.9.' },
    { code: 'infeasible', field: 'combinations.3', message: 'Choose at most 0.9.' },
  ])
  await expect(workbench.call('experiments.create', { name: 'Too much', grid })).rejects.toMatchObject({ code: 'infeasible' })
  expect(await workbench.call('experiments.list', {})).toEqual([])
  expect((await workbench.call('runs.query', {})).total).toBe(0)
})

test('drafts wait, move in the queue and are cloned', async () => {
  await using workbench = await openedWorkbench()
  await workbench.call('queue.pause', {})
  const { experiment, runs } = await workbench.call('experiments.create', { name: 'Later', grid: smallGrid(workbench), start: 'draft' })
  expect((await workbench.call('queue.get', {})).runs).toEqual([])
  await workbench.call('experiments.enqueue', { id: experiment.id })
  const [dense, two, short] = runs.map(({ id }) => id) as [string, string, string]
  const order = async () => (await workbench.call('queue.get', {})).runs.map(({ id }) => id)
  await workbench.call('queue.move', { id: short, before: dense })
  expect(await order()).toEqual([short, dense, two])
  await workbench.call('queue.move', { id: short, before: null })
  expect(await order()).toEqual([dense, two, short])
  const clone = await workbench.call('runs.clone', { id: two, changes: { seed: 7 }, start: 'draft' })
  expect(clone).toMatchObject({ seed: 7, parent: two, method: '2ssp', status: 'draft' })
  await workbench.call('queue.resume', {})
  expect((await runEnded(workbench, short)).status).toBe('done')
})

test('a described run is replayed on another machine with the same result', async () => {
  await using here = await openedWorkbench()
  await using there = await openedWorkbench()
  const { id } = await oneRun(here, { rounds: 6 }, 3)
  const original = await runEnded(here, id)
  const description = JSON.parse(JSON.stringify(await here.call('runs.describe', { id })))
  expect([description.request.model, (await here.call('runs.describe', { id, paths: true })).request.model]).toEqual([
    here.model.path.split('/').at(-1),
    here.model.path,
  ])
  const { id: copy } = await there.call('runs.replay', { description })
  const replayed = await runEnded(there, copy)
  expect(replayed.plan).toEqual(original.plan)
  expect(replayed.resolved).toEqual(original.resolved)
  expect(replayed.request.reproduces).toMatchObject({ afresh: false, measures: description.measures })
  expect(description.measures).toContainEqual({ name: 'perplexity', dataset: 'sample', value: 16, unit: '' })
})

test('a description is foreseen with the model and the runs of the same settings, and computed afresh if asked', async () => {
  await using workbench = await openedWorkbench()
  const { call, model } = workbench
  const options = { rounds: 3, shares: true, stepMilliseconds: 200 }
  const { id } = await oneRun(workbench, options, 3)
  await runEnded(workbench, id)
  const other = await oneRun(workbench, options, 4)
  await runEnded(workbench, other.id)
  const description = await call('runs.describe', { id, paths: true })
  const foreseen = await call('runs.foresee', { description })
  expect(foreseen).toMatchObject({ model: { id: model.id, path: model.path }, same: [{ id }], problems: [] })
  const afresh = await runEnded(workbench, (await call('runs.replay', { description, afresh: true })).id)
  // Each of its own three steps takes this long. Steps of the described run would take no time.
  expect(afresh.seconds).toBeGreaterThan(0.6)
  expect(afresh.plan).toEqual((await call('runs.get', { id })).plan)
})

test('an experiment exported to a file is equal where it is imported', async () => {
  await using here = await openedWorkbench()
  await using there = await openedWorkbench()
  const { experiment, runs } = await here.call('experiments.create', { name: 'Ähnlich', grid: smallGrid(here), notes: 'kept', tags: ['a'] })
  for (const { id } of runs) await runEnded(here, id)
  const { content, fileName } = await here.call('experiments.export', { id: experiment.id })
  expect(fileName).toBe('Ahnlich.espalier.json')
  const taken = await there.call('experiments.import', { content })
  expect(taken).toMatchObject({ runs: 3, experiment: { name: 'Ähnlich', notes: 'kept', tags: ['a'], counts: { done: 3 } } })
  const strip = ({ rows }: { rows: { method: string; measures: unknown; nominal: unknown; reached: unknown }[] }) =>
    rows.map(({ method, measures, nominal, reached }) => ({ method, measures, nominal, reached }))
  const query = { sort: [{ field: 'method' }] }
  expect(strip(await there.call('runs.query', query))).toEqual(strip(await here.call('runs.query', query)))
})

test('a run of a removed method is shown and compared, but is not computed again', async () => {
  await using workbench = await openedWorkbench()
  const { call } = workbench
  const { experiment, runs } = await call('experiments.create', { name: 'Old', grid: smallGrid(workbench) })
  for (const { id } of runs) await runEnded(workbench, id)
  const { content } = await call('experiments.export', { id: experiment.id })
  const old = content.replaceAll('"method": "2ssp"', '"method": "2ssp_fit", "fit": { "base": 64, "widths": [32, 64], "blocks": [] }')
  const { experiment: taken } = await call('experiments.import', { content: old })
  const { rows } = await call('runs.query', { experiment: taken.id, conditions: [{ field: 'method', is: 'equal', value: '2ssp_fit' }] })
  const id = rows[0]?.id as string
  const shown = await call('runs.get', { id })
  expect(shown).toMatchObject({ status: 'done', method: '2ssp_fit', plan: (await call('runs.get', { id: runs[1]?.id as string })).plan })
  const ids = (await call('runs.query', { experiment: taken.id })).rows.map((row) => row.id)
  expect((await call('compare.table', { ids, format: 'csv' })).content).toContain('2SSP, fitted')
  const refused = { code: 'conflict', message: expect.stringMatching(/was removed.* choose gates/) }
  await expect(call('runs.retry', { ids: [id] })).rejects.toMatchObject(refused)
  expect(await call('runs.act', { selection: { ids }, action: { kind: 'retry' } })).toMatchObject({ runs: 3, changed: 2 })
  expect(await call('runs.get', { id })).toMatchObject({ status: 'done', plan: shown.plan })
})

interface LooseFile {
  formatVersion: number
  experiment: { name: string }
  models: [{ description: { blocks: unknown } }]
  runs: [unknown, { model: string; status: string; request: { seed: number } }]
}

test('a hostile experiment file changes nothing', async () => {
  await using workbench = await openedWorkbench()
  const { experiment } = await workbench.call('experiments.create', { name: 'Good', grid: smallGrid(workbench), start: 'draft' })
  const { content } = await workbench.call('experiments.export', { id: experiment.id })
  const broken = (change: (file: LooseFile) => void) => {
    const file = JSON.parse(content) as LooseFile
    change(file)
    return JSON.stringify(file)
  }
  const files = [
    '',
    '{',
    '[]',
    'null',
    '{"__proto__":{"polluted":true}}',
    '['.repeat(100_000),
    broken((file) => {
      file.formatVersion = 2
    }),
    broken((file) => {
      file.runs[1].model = 'nowhere'
    }),
    broken((file) => {
      file.runs[1].status = 'constructor'
    }),
    broken((file) => {
      file.runs[1].request.seed = -1
    }),
    broken((file) => {
      file.models[0].description.blocks = 'many'
    }),
    broken((file) => {
      file.experiment.name = ''
    }),
  ]
  for (const file of files)
    await expect(workbench.call('experiments.import', { content: file }), file.slice(0, 60)).rejects.toMatchObject({ code: 'invalid' })
  expect((await workbench.call('experiments.list', { archived: true })).length).toBe(1)
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
})

test('archived runs leave the history and come back, and only they can be deleted', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench, { stepBytes: 300_000, rounds: 2 })
  await runEnded(workbench, id)
  await expect(workbench.call('runs.remove', { ids: [id] })).rejects.toMatchObject({ code: 'conflict' })
  await workbench.call('runs.archive', { ids: [id] })
  expect((await workbench.call('runs.query', {})).total).toBe(0)
  expect((await workbench.call('runs.query', { archived: 'only' })).total).toBe(1)
  await workbench.call('runs.unarchive', { ids: [id] })
  await workbench.call('runs.archive', { ids: [id] })
  const wouldFree = await workbench.call('runs.removal', { ids: [id] })
  expect(wouldFree.bytes).toBeGreaterThan(600_000)
  await workbench.call('runs.remove', { ids: [id] })
  await expect(workbench.call('runs.get', { id })).rejects.toMatchObject({ code: 'not-found' })
})

test('tags, notes and stars are kept and searched', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench)
  await workbench.call('runs.update', { ids: [id], notes: 'surprisingly good', addTags: ['keep', 'paper'], starred: true })
  await workbench.call('runs.update', { ids: [id], removeTags: ['paper'] })
  const { rows } = await workbench.call('runs.query', {
    search: 'surpris',
    conditions: [
      { field: 'tag', is: 'all of', value: ['keep'] },
      { field: 'starred', is: 'equal', value: true },
    ],
  })
  expect(rows.map(({ tags }) => tags)).toEqual([['keep']])
  expect((await workbench.call('runs.query', { search: 'paper' })).total).toBe(0)
})

test('a backup brings back what was deleted since, and keeps what it replaced', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench)
  await runEnded(workbench, id)
  const { name } = await workbench.call('history.backup', {})
  await workbench.call('runs.archive', { ids: [id] })
  await workbench.call('runs.remove', { ids: [id] })
  const restored = await workbench.call('history.restore', { name })
  expect(restored).toMatchObject({ runs: 1, intact: true })
  expect(restored.backups.map((backup) => backup.name)).toEqual(expect.arrayContaining([name, expect.stringContaining('before-restore')]))
  expect((await workbench.call('runs.get', { id })).status).toBe('done')
  await expect(workbench.call('history.restore', { name: '../history.sqlite' })).rejects.toMatchObject({ code: 'invalid' })
  await expect(workbench.call('history.restore', { name: '..' })).rejects.toThrow()
})

test('the hub token is readable by its owner only and never shown', async () => {
  await using workbench = await openedWorkbench()
  await workbench.call('settings.setHubToken', { token: 'hf_secret' })
  expect(statSync(join(workbench.folder, 'hub-token')).mode & 0o777).toBe(0o600)
  const reported = JSON.stringify([
    await workbench.call('settings.get', {}),
    await workbench.call('engine.diagnostics', {}),
    workbench.events,
  ])
  expect(reported).not.toContain('hf_secret')
  await workbench.call('settings.setHubToken', { token: null })
  expect(existsSync(join(workbench.folder, 'hub-token'))).toBe(false)
})

test('settings are kept, and folders must be whole paths', async () => {
  await using workbench = await openedWorkbench()
  await workbench.call('settings.update', { theme: 'dark', folders: { exports: join(workbench.folder, 'out') } })
  await expect(workbench.call('settings.update', { folders: { models: '../elsewhere' } })).rejects.toMatchObject({ code: 'invalid' })
  await using again = await workbench.reopened()
  expect(await again.call('settings.get', {})).toMatchObject({
    theme: 'dark',
    folders: { exports: join(workbench.folder, 'out'), models: join(workbench.folder, 'models') },
  })
})

test('a pruned model is only written inside the allowed folders', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench)
  await runEnded(workbench, id)
  for (const folder of [
    '../outside',
    '/etc/espalier',
    join(workbench.folder, 'exports', '..', '..', 'x'),
    join(workbench.folder, 'exports'),
  ]) {
    await expect(workbench.call('runs.save', { id, formats: ['stock'], folder }), folder).rejects.toMatchObject({ code: 'invalid' })
  }
})

test('a copied model belongs to the library and a linked one does not', async () => {
  await using workbench = await openedWorkbench()
  const given = join(workbench.folder, 'given', 'other')
  mkdirSync(given)
  writeFileSync(join(given, 'config.json'), '{"a":1}')
  const copied = await workbench.call('models.add', { path: given, mode: 'copy', name: 'Copy of it' })
  expect(readFileSync(join(copied.path, 'config.json'), 'utf8')).toBe('{"a":1}')
  expect(copied).toMatchObject({ origin: 'copied', path: join(workbench.folder, 'models', 'Copy-of-it'), present: true })
  expect((await workbench.call('history.get', {})).modelBytes).toBe(copied.bytes)
  await expect(workbench.call('models.remove', { id: workbench.model.id, files: true })).rejects.toMatchObject({ code: 'conflict' })
  await workbench.call('models.remove', { id: copied.id, files: true })
  expect((await workbench.call('models.list', {})).map(({ id }) => id)).toEqual([workbench.model.id])
  await workbench.call('models.restore', { id: copied.id })
  expect((await workbench.call('models.get', { id: copied.id })).files).toEqual([{ name: 'config.json', bytes: 7 }])
  await expect(workbench.call('models.add', { path: given, mode: 'copy', name: 'Copy of it' })).rejects.toMatchObject({ code: 'conflict' })
})

test('a reply continues the transcript, and each column sees its own answers', async () => {
  await using workbench = await openedWorkbench()
  const { call } = workbench
  const ended = (id: string) =>
    eventually(async () => {
      const now = await call('transcripts.get', { id })
      return now.status !== 'running' && now
    }, 'the end of the answers')
  const ask = async (template: 'chat' | 'raw', prompts: string[]) => {
    const columns = [{ model: workbench.model.id }, { model: workbench.model.id }]
    const { id } = await call('playground.start', {
      columns,
      prompts: prompts.map((text) => ({ text })),
      settings: { maxTokens: 60, template },
    })
    const speaks = () =>
      workbench.events.some(({ name, data }) => name === 'generation' && data.session === id && data.event.type === 'token')
    await eventually(speaks, 'a token')
    await call('playground.stop', { id, column: 0 })
    await ended(id)
    return id
  }
  const id = await ask('chat', ['Who…'])
  await call('playground.reply', { id, text: 'And then…' })
  await expect(call('playground.reply', { id, text: 'At once' })).rejects.toMatchObject({ code: 'conflict' })
  await call('playground.stop', { id, column: 0 })
  await ended(id)
  await call('playground.reply', { id, text: 'Why?' })
  const { prompts, answers, settings } = await ended(id)
  expect(prompts).toEqual(['Who…', 'And then…', 'Why?'])
  expect(settings.turns).toBe(true)
  const textOf = (prompt: number, column: number) => answers.find((one) => one.prompt === prompt && one.column === column)?.text
  expect(textOf(0, 0)).not.toBe(textOf(0, 1))
  for (const column of [0, 1])
    expect(textOf(2, column)?.startsWith(`Who… | ${textOf(0, column)} | And then… | ${textOf(1, column)} | Why? word0`)).toBe(true)
  for (const other of [await ask('raw', ['Who…']), await ask('chat', ['Who…', 'Where?'])])
    await expect(call('playground.reply', { id: other, text: 'Why?' })).rejects.toMatchObject({ code: 'conflict' })
})

test('columns stream, one can be stopped, and every answer is kept', async () => {
  await using workbench = await openedWorkbench()
  const { id: run } = await oneRun(workbench)
  await runEnded(workbench, run)
  const columns = [{ model: workbench.model.id }, { run }]
  const session = await workbench.call('playground.start', { columns, prompts: [{ text: 'Who…' }], settings: { maxTokens: 60 } })
  const tokens = (column: number) =>
    workbench.events.filter(
      (event) => event.name === 'generation' && event.data.event.type === 'token' && event.data.event.column === column,
    ).length
  await eventually(() => tokens(0) > 3, 'some tokens')
  await workbench.call('playground.stop', { id: session.id, column: 0 })
  const transcript = await eventually(async () => {
    const now = await workbench.call('transcripts.get', { id: session.id })
    return now.status !== 'running' && now
  }, 'the end of the session')
  expect(transcript.answers.map(({ column, end }) => ({ column, end }))).toEqual([
    { column: 0, end: 'stopped' },
    { column: 1, end: 'length' },
  ])
  expect(tokens(1)).toBe(60)
  await workbench.call('transcripts.update', { id: session.id, vote: { prompt: 0, column: 1 }, title: 'About someone' })
  const { rows } = await workbench.call('transcripts.query', { search: 'word59', run })
  expect(rows.map(({ title }) => title)).toEqual(['About someone'])
  const markdown = await workbench.call('transcripts.export', { ids: [session.id], format: 'markdown' })
  expect(markdown.content).toContain('> Who… word0')
})

test('every call refuses what its schema does not allow', async () => {
  await using workbench = await openedWorkbench()
  for (const name of callNames) {
    for (const input of [null, 7, 'text', [], { id: '../../etc/passwd' }, { ids: ['x'.repeat(1000)] }]) {
      const outcome = await workbench.call(name, input as never).then(
        () => 'accepted',
        (thrown: { code?: string }) => thrown.code,
      )
      expect(['accepted', 'invalid', 'not-found', 'internal'], `${name} ${JSON.stringify(input)}`).toContain(outcome)
      if (input === null || typeof input !== 'object') expect(outcome, name).toBe('invalid')
    }
  }
  for (const name of ['constructor', '__proto__', 'toString', 'nothing.get'])
    await expect(workbench.call(name as never, {} as never)).rejects.toMatchObject({ code: 'not-found' })
})
