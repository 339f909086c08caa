import { writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hidePlaces } from '#services/hide-places.ts'
import { openedWorkbench, runEnded, smallGrid } from './opened.ts'

test('files and folders are named without what leads to them, in commands and sentences too', () => {
  const model = '/home/ann lee/models/tiny'
  const document = {
    request: { model, calibration: { source: '/home/ann lee/texts/own.txt', windows: 4 }, measures: [{ folder: 'C:\\tasks\\arc' }] },
    remarks: ['/home/ann lee/texts/own.txt gives 3 windows.', `${model} and ${model}/config.json`, 'C:\\tasks\\arc is used'],
    seed: 0,
    plan: null,
  }
  const hidden = hidePlaces(document)
  expect(hidden.request).toEqual({ model: 'tiny', calibration: { source: 'own.txt', windows: 4 }, measures: [{ folder: 'arc' }] })
  expect(hidden.remarks).toEqual(['own.txt gives 3 windows.', 'tiny and tiny/config.json', 'arc is used'])
  expect([hidden.seed, hidden.plan]).toEqual([0, null])
})

test('named texts and answers that begin with a slash stay unchanged, and the home folder never shows', () => {
  const document = { source: 'wikitext2', answers: [{ text: '/help me' }], note: `kept in ${join(homedir(), 'cache')}` }
  expect(hidePlaces(document)).toEqual({
    ...document,
    note: `kept in ${homedir().length > 1 ? join('~', 'cache') : join(homedir(), 'cache')}`,
  })
})

test('an address, a longer name and what follows a place stay unchanged', () => {
  const model = '/models'
  const remarks = [`https://host/models/x and ${model}/x`, `/models2 and ${model}.`, `${homedir()}-two/x and ${homedir()}é`]
  expect(hidePlaces({ model, remarks }).remarks).toEqual(['https://host/models/x and models/x', '/models2 and models.', remarks[2]])
})

test('a name with special characters of a pattern stays unchanged', () => {
  expect(hidePlaces({ source: "/texts/$&(1)+$'.txt", remark: "Read /texts/$&(1)+$'.txt twice." })).toEqual({
    source: "$&(1)+$'.txt",
    remark: "Read $&(1)+$'.txt twice.",
  })
})

test('places within JSON and in flat parameters are named only', () => {
  const mix = JSON.stringify([{ source: 'C:\\texts\\own.txt', share: 1 }])
  const parameters = { 'calibration.source': '/texts/a.txt', 'repair.calibration.mix': mix, alpha: 1 }
  expect(hidePlaces({ parameters }).parameters).toEqual({
    'calibration.source': 'a.txt',
    'repair.calibration.mix': JSON.stringify([{ source: 'own.txt', share: 1 }]),
    alpha: 1,
  })
})

test('the history as CSV and a report name files only, wherever they are mentioned, unless paths are asked for', async () => {
  await using workbench = await openedWorkbench()
  const { call, folder } = workbench
  const own = join(folder, 'own.txt')
  writeFileSync(own, 'Once upon a time. '.repeat(200))
  const mix = [
    { source: own, share: 0.5 },
    { source: 'mixed', share: 0.5 },
  ]
  const grid = {
    ...smallGrid(workbench),
    calibration: { source: own, sequenceLength: 8 },
    repairs: ['one-pass' as const],
    repairData: { source: '', mix, sequenceLength: 8 },
  }
  const { experiment, runs } = await call('experiments.create', { name: 'Own text', notes: `Read from ${own}.`, grid })
  for (const { id } of runs) await runEnded(workbench, id)
  const documents = async (paths: boolean) => [
    (await call('runs.csv', { paths })).content,
    (await call('reports.make', { experiment: experiment.id, title: `On ${own}`, format: 'html', paths })).content,
  ]
  for (const content of await documents(false)) {
    expect(content).toContain('own.txt')
    expect(content).not.toContain(folder)
  }
  for (const content of await documents(true)) expect(content).toContain(own)
  const hidden = await call('reports.make', { experiment: experiment.id, title: `On ${own}`, format: 'markdown' })
  expect(hidden.content).toContain('Read from own')
  expect(hidden.fileName).toBe('On-own.txt.md')
})
